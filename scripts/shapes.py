"""What each layer makes of its input: shapes, parameters, FLOPs, receptive field; of a model, or of one layer.

python scripts/shapes.py model=lenet5 data=mnist
python scripts/shapes.py model=cnn data=cifar10 "model.channels=[16,32,64]" model.kernel_size=3 "model.stride=[1,2,2]"
python scripts/shapes.py experiment=lenet5_mnist
python scripts/shapes.py image=28x28x3 kernel=3 padding=1 stride=3
python scripts/shapes.py image=7x7x16 kernel=4 padding=1 stride=2 channels=8 transposed=true

Data whose sizes stand in its yaml file is not read, and need not be there.
"""

import sys
from pathlib import Path
from typing import Any

from zoo.config.commandline import CONFIGS, guarded, script_arguments
from zoo.errors import UserError

LAYER = {
    "image": "height x width x channels of the input of one layer, such as 28x28x3",
    "kernel": "its size, 3 or 3x5 (3)",
    "stride": "1 or 1x2 (1)",
    "padding": "same, valid, 1 or 1x2 (0)",
    "dilation": "1 or 1x2 (1)",
    "channels": "of the output: the number of kernels (1)",
    "transposed": "true for a transposed convolution (false)",
    "output_padding": "of a transposed convolution (0)",
}
MODEL = {
    "model, data": "instead of image=: which, and any other key that train.py has, such as model.dropout=0.5",
}
EXAMPLE = "python scripts/shapes.py model=lenet5 data=mnist, or image=28x28x3 kernel=3 stride=3 padding=1"


def numbers(given: dict[str, str], key: str, default: str, *, least: int, amounts: tuple[int, ...]) -> list[int]:
    """The numbers of `3` or `3x5`. Raises UserError where they are too small, too few or too many."""
    parts = given.get(key, default).lower().split("x")
    if len(parts) not in amounts or not all(part.isdecimal() and int(part) >= least for part in parts):
        names = "same, valid, or " if key == "padding" else ""
        example = {1: "5", 2: "1 or 1x2", 3: "28x28x3"}[max(amounts)]
        raise UserError(f"{key}={given.get(key)} must be {names}whole numbers from {least} on, such as {example}.")
    return [int(part) for part in parts]


def pair(given: dict[str, str], key: str, default: str, *, least: int) -> tuple[int, int]:
    """One number for height and width, or one for each."""
    found = numbers(given, key, default, least=least, amounts=(1, 2))
    return found[0], found[-1]


def one_layer(given: dict[str, str]) -> str:
    """What a convolution makes of an image. Raises UserError where there is no such layer."""
    import torch
    from torch import nn

    from zoo.analysis.shapes import by_x, shapes
    from zoo.layers.convolution import Conv2d
    from zoo.layers.window import windows

    height, width, *depth = numbers(given, "image", "", least=1, amounts=(2, 3))
    in_channels, (channels,) = (depth or [1])[0], numbers(given, "channels", "1", least=1, amounts=(1,))
    kernel, stride, dilation = (pair(given, key, default, least=1) for key, default in
                                (("kernel", "3"), ("stride", "1"), ("dilation", "1")))  # fmt: skip
    added = pair(given, "output_padding", "0", least=0)
    transposed = given.get("transposed", "false").lower()
    if transposed not in ("true", "false"):
        raise UserError(f"transposed={transposed} must be true or false.")
    name = given.get("padding", "0")
    padding: Any = name if name in ("same", "valid") else pair(given, "padding", "0", least=0)
    options: dict[str, Any] = {"stride": stride, "dilation": dilation}
    layer: nn.Module
    if transposed == "true":
        if name == "same":
            raise UserError("padding=same is not defined for a transposed convolution; give a number.")
        if any(more >= max(axis) for more, *axis in zip(added, stride, dilation, strict=True)):
            raise UserError("output_padding= must be smaller than stride= or dilation=: the rest is zeros alone.")
        options |= {"padding": 0 if name == "valid" else padding, "output_padding": added}
        layer = nn.ConvTranspose2d(in_channels, channels, kernel, **options)
    elif any(added):
        raise UserError("output_padding= goes with transposed=true.")
    else:
        layer = Conv2d(in_channels, channels, kernel, padding=padding, **options)
    axes = dict(zip(("height", "width"), zip(windows(layer), (height, width), strict=True), strict=True))
    for axis, (window, n) in axes.items():
        if window.size(n) < 1:
            hint = "less padding=" if window.transposed else "a smaller kernel= or more padding="
            raise UserError(f"The {axis} would be {window.formula(n)}: nothing is left; use {hint}.")
    (row,) = shapes(layer, (torch.zeros(1, in_channels, height, width),))
    lines = [f"{type(layer).__name__}: {by_x((height, width, in_channels))} -> {by_x((*row.output[1:], channels))}"]
    for axis, (window, n) in axes.items():
        sides = window.padding_of(n)
        lines.append(f"{axis:<12}{window.formula(n)}" + (f"    padding {sides}" if name == "same" else ""))
    return "\n".join(
        [*lines, f"{'parameters':<12}{row.parameters:,}", f"{'FLOPs':<12}{row.flops:,} (a multiply-add is 2)"]
    )


def network(overrides: list[str]) -> tuple[Any, tuple[Any, ...], str]:
    """The network that `python train.py <overrides>` would train, its inputs for one sample, and what it is."""
    import torch
    from omegaconf import OmegaConf

    from zoo.config.compatibility import check_pair
    from zoo.config.instantiate import make
    from zoo.config.settings import FACTS, check_settings, choice
    from zoo.run import configure

    flags = [argument for argument in overrides if argument.startswith("-")]
    if flags:
        raise UserError(f"There is no option {flags[0]}; write key=value, for instance {EXAMPLE}.")
    cfg = configure(*overrides, run_dir="unused")
    check_settings(cfg)
    check_pair(cfg)
    title = f"model={choice(cfg, 'model')} data={choice(cfg, 'data')}"
    facts = {key: cfg.data.get(key) for key in FACTS if key in cfg.data.keys()}  # noqa: SIM118 - ??? is a key, too
    sizes = facts.get("image_shape") or [facts.get("num_features")]
    known = None not in (*facts.values(), *sizes) and not OmegaConf.is_missing(cfg.task, "num_outputs")
    if known and str(cfg.model.get("_target_")).startswith("zoo."):
        config = OmegaConf.to_container(cfg.model, resolve=True)
        return make(config, title.split()[0]), (torch.zeros(1, *map(int, sizes)),), title
    from zoo.build import build_model, resolve
    from zoo.config.prepare import build_data
    from zoo.config.settings import settle_task

    sys.path.append(str(Path.cwd()))  # for a network of the user's own
    data = build_data(cfg)
    settle_task(cfg, data)
    return build_model(resolve(cfg), data), data.part("train")[torch.tensor([0])].inputs, title


def main() -> int:
    arguments = sys.argv[1:]
    keys = [argument.partition("=")[0] for argument in arguments]
    of_model = [key for key in keys if "." in key or key[:1] in "+~" or (CONFIGS / key).is_dir()]
    if not of_model:
        given = script_arguments(arguments, LAYER | MODEL)
        if "image" not in given:
            raise UserError(f"Which model, or which layer? {EXAMPLE}    --help shows all keys.")
        print(one_layer(given))
        return 0
    mixed = [key for key in keys if key in LAYER]
    if mixed:
        raise UserError(f"{mixed[0]}= is about one layer and {of_model[0]}= about a model; ask for one of them.")
    model, inputs, title = network(arguments)
    from zoo.analysis.shapes import shapes, table

    try:
        rows = shapes(model, inputs)
    except RuntimeError as error:
        raise UserError(f"{title} do not go together: {str(error).splitlines()[0]}") from error
    print(f"{title}\n\n{table(rows, model)}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
