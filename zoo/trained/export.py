"""A trained network for use elsewhere: weights, a program of torch, or ONNX, each checked before it is said to be done.

    .safetensors   weights with all that the zoo's scripts need: configuration, classes, how inputs were prepared
    .pt2           torch.export: the network as a graph, which runs where the zoo is not installed
    .onnx          the same for other frameworks; needs the extra `onnx`

Axes: B samples, T steps, S source steps
"""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.checkpoint import BESIDE_WEIGHTS, build_model, find, model_weights, read
from zoo.errors import UserError

ENDINGS = (".safetensors", ".pt2", ".onnx")
# Of a configuration: what holds on the machine of the run alone, and how the run was shown there.
OF_ONE_PLACE = ("run_dir", "data_dir", "overrides", "resume", "pretrained", "launcher", "sweep", "logger", "callbacks")
STEPS = 12  # of an example
LARGEST = 1e-4  # difference between what the network says and what its copy does, relative to the largest answer


def export(source: str | Path, out: str | Path, *, half: bool = False, allow: list[str] | None = None) -> str:
    """Writes a checkpoint's network to `out`, in the form that its ending names, and checks it.

    Args:
        source: see `zoo.checkpoint.find`.
        half: weights in 16 bits (.safetensors alone).
        allow: see `zoo.checkpoint.load_model`.

    Returns:
        One line on what was written, and how far its answers are from the network's.

    Raises:
        UserError: the form is unknown or cannot hold this network; nothing is left at `out` then.
    """
    out = Path(out).expanduser()
    if out.suffix not in ENDINGS:
        raise UserError(f"out={out} must end with {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}.")
    if half and out.suffix != ".safetensors":
        raise UserError(f"half=true is for .safetensors; {out.suffix} keeps the network's own precision.")
    path = find(source)
    checkpoint = read(path)
    model = build_model(checkpoint, path, allow or ())
    unfinished = out.with_name(f"{out.stem}.unfinished{out.suffix}")
    write: Callable[..., Callable[..., Any]] = {".safetensors": _weights, ".pt2": _program, ".onnx": _onnx}[out.suffix]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        unfinished.touch()
        mode = unfinished.stat().st_mode  # as any new file has it; safetensors leaves one for its owner alone
        difference = _differs(model, write(unfinished, checkpoint, model, half), checkpoint)
        unfinished.chmod(mode)
        if not difference <= (LARGEST * 100 if half else LARGEST):
            raise UserError(f"{out} was not written: its answers differ from the network's by {difference:.2g}.")
        unfinished.replace(out)
    except (OSError, RuntimeError) as error:  # the latter of torch, where the disk is full
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or ["?"])[0]
        raise UserError(f"{out} cannot be written: {reason}.") from error
    finally:
        unfinished.unlink(missing_ok=True)
    size = out.stat().st_size / 2**20
    return f"{out}: {size:.2f} MiB, {type(model).__name__}; its answers differ from the network's by {difference:.1e}"


def _differs(model: nn.Module, answer: Callable[..., Any], checkpoint: dict[str, Any]) -> float:
    """How far the answers are apart, for other numbers of samples than the copy was made with."""
    try:
        return max(distance(model, answer, examples(checkpoint, model, number)) for number in (1, 5))
    except Exception as error:  # whatever runs the copy has its own way to object
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"Nothing was written, for the copy of {type(model).__name__} fails: {reason}") from error


def _weights(path: Path, checkpoint: dict[str, Any], model: nn.Module, half: bool) -> Callable[..., Any]:
    from safetensors.torch import save_file

    kept = {key: checkpoint[key] for key in BESIDE_WEIGHTS if key in checkpoint}
    config = {key: value for key, value in kept.get("config", {}).items() if key not in OF_ONE_PLACE}
    config["data"] = {key: value for key, value in config.get("data", {}).items() if key != "data_dir"}
    metadata = {key: json.dumps(value) for key, value in (kept | {"config": config}).items()}
    weights = model_weights(checkpoint)
    numbers = {name: x.half() if half and x.is_floating_point() else x for name, x in weights.items()}
    save_file({name: x.contiguous().clone() for name, x in numbers.items()}, path, metadata)
    return build_model(read(path), path)


def _program(path: Path, checkpoint: dict[str, Any], model: nn.Module, half: bool) -> Callable[..., Any]:
    traced, masked = _traced(checkpoint, model)
    torch.export.save(traced, path)
    copy = torch.export.load(path).module()
    return lambda *inputs: copy(*(inputs if masked else without_masks(inputs)))


class Flat(nn.Module):
    """A network whose answer is a tuple of tensors, whatever it was nested in."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        return tuple(tensors(self.model(*inputs)))


def _traced(checkpoint: dict[str, Any], model: nn.Module) -> tuple[Any, bool]:
    """The network as a graph, and whether it takes masks: not where what it does depends on what they say."""
    inputs = examples(checkpoint, model, 3)
    try:
        return _graph(model, inputs), True
    except UserError:
        if not any(is_mask(x) for x in inputs):
            raise
        return _graph(model, without_masks(inputs)), False


def is_mask(x: Tensor | None) -> bool:
    return x is not None and x.dtype == torch.bool


def without_masks(inputs: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    return tuple(None if is_mask(x) else x for x in inputs)


def _graph(model: nn.Module, inputs: tuple[Tensor | None, ...]) -> Any:
    model.to(memory_format=torch.contiguous_format)  # the only one that a stored program has
    with torch.no_grad():
        model(*inputs)  # tables of positions are made now, and not inside of the graph
    free, samples = torch.export.Dim.AUTO, torch.export.Dim("samples", min=1)  # torch's own guess begins at 2
    try:
        return _followed(model, inputs, samples, free)
    except UserError:
        return _followed(model, inputs, free, free)


def _followed(model: nn.Module, inputs: tuple[Tensor | None, ...], samples: Any, steps: Any) -> Any:
    axes = [None if x is None else {0: samples, **({1: steps} if counts_steps(x) else {})} for x in inputs]
    was = logging.getLogger("torch").level
    logging.getLogger("torch").setLevel(logging.ERROR)  # it prints the graph that it has so far
    try:
        with warnings.catch_warnings(), torch.no_grad(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            return torch.export.export(Flat(model).eval(), inputs, dynamic_shapes={"inputs": tuple(axes)})
    except Exception as error:  # whatever in a network is no graph
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{type(model).__name__} cannot be written as a graph: {reason}") from error
    finally:
        logging.getLogger("torch").setLevel(was)


def counts_steps(x: Tensor) -> bool:
    """Whether an input is a row of tokens, or a mask of them: its second axis counts steps."""
    return not x.is_floating_point()


def _onnx(path: Path, checkpoint: dict[str, Any], model: nn.Module, half: bool) -> Callable[..., Any]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - what torch writes it with
    except ImportError as error:
        raise UserError(f'out={path.suffix} needs {error.name}: pip install "torch-reference-zoo[onnx]"') from None
    traced, masked = _traced(checkpoint, model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(traced, dynamo=True, external_data=False, verbose=False)
            program.save(str(path))
    except Exception as error:  # an operation that ONNX has no name for
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{type(model).__name__} cannot be written as ONNX: {reason}") from error
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]

    def answer(*inputs: Tensor | None) -> list[Tensor]:
        given = [x.numpy() for x in (inputs if masked else without_masks(inputs)) if x is not None]
        return [torch.from_numpy(x) for x in session.run(None, dict(zip(names, given, strict=True)))]

    return answer


def examples(checkpoint: dict[str, Any], model: nn.Module, number: int) -> tuple[Tensor | None, ...]:
    """Inputs (B, ...) of the kind that a network was trained on, drawn from a seed."""
    data, task = checkpoint["config"]["data"], checkpoint["config"].get("task") or {}
    draw = torch.Generator().manual_seed(number)
    steps = min(STEPS, getattr(model, "max_len", None) or STEPS)

    def tokens(size: int) -> Tensor:
        return torch.randint(1, size, (number, steps), generator=draw)  # 0 is padding

    image = torch.rand(number, *data["image_shape"], generator=draw) if data.get("image_shape") else None
    if data.get("tgt_vocab_size"):
        written = tokens(data["tgt_vocab_size"])
        if image is not None:
            return image, None, written
        return tokens(data["src_vocab_size"]), torch.ones(number, steps, dtype=torch.bool), written
    if data.get("vocab_size"):
        read_ = tokens(data["vocab_size"])
        return (read_,) if task.get("head") in ("next_step",) else (read_, torch.ones_like(read_, dtype=torch.bool))
    if image is not None:
        return (image,)
    if data.get("input_size"):
        return (torch.rand(number, data.get("seq_len") or steps, data["input_size"], generator=draw),)
    if data.get("num_features"):
        return (torch.rand(number, data["num_features"], generator=draw),)
    raise UserError("The checkpoint does not say of what kind its inputs are, so no copy of it could be checked.")


def tensors(answer: Any) -> Iterator[Tensor]:
    """What a network answers, out of its tuples and lists."""
    if isinstance(answer, Tensor):
        yield answer
    elif isinstance(answer, (tuple, list)):
        for part in answer:
            yield from tensors(part)


@torch.no_grad()
def distance(model: nn.Module, copy: Callable[..., Any], inputs: tuple[Tensor | None, ...]) -> float:
    """The greatest difference of two networks' answers, relative to the greatest answer; infinite for other shapes."""
    wanted, found = list(tensors(model(*inputs))), list(tensors(copy(*inputs)))
    if [x.shape for x in wanted] != [x.shape for x in found]:
        return float("inf")
    pairs = [(a.double(), b.double()) for a, b in zip(wanted, found, strict=True)]
    return max(((a - b).abs().max() / a.abs().max().clamp(min=1e-6)).item() for a, b in pairs)
