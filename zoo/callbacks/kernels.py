"""What the first layer looks for, and what the convolutions make of one image.

Zeiler, Fergus, "Visualizing and understanding convolutional networks", 2014, section 4.
"""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from zoo.callbacks.activity import Seen, watch
from zoo.callbacks.curves import iterations_done
from zoo.callbacks.showing import first_batch, pictured, show, writers
from zoo.pictures.layers import feature_maps as draw_maps
from zoo.pictures.layers import kernels


def first_kernels(model: nn.Module, shape: tuple[int, ...]) -> Tensor | None:
    """The weights of the first layer as images (units, C, H, W); None where they are none, as over vectors of words.

    Args:
        shape: of one input. A dense first layer weighs each pixel of an image (C, H, W), so its units have images, too.
    """
    layers = (m for m in model.modules() if isinstance(m, (nn.Linear, _ConvNd, nn.Embedding)))
    first = next(layers, None)
    if isinstance(first, nn.Linear) and len(shape) == 3 and first.in_features == shape[0] * shape[1] * shape[2]:
        return first.weight.detach().unflatten(1, shape)
    if isinstance(first, _ConvNd) and not isinstance(first, _ConvTransposeNd):
        weight = first.weight.detach()
        if weight.ndim == 3:  # (units, C, k): over time, with a row for each channel
            return weight[:, None]
        return weight if weight.ndim == 4 else None
    return None


class Kernels(Callback):
    """The kernels of the first layer as images, before training and after epochs 1, 2, 4, 8, ... and the last."""

    lean = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if iterations_done(trainer) == 0:
            self._draw(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if pictured(trainer):
            self._draw(trainer, pl_module)

    @staticmethod
    def _draw(trainer: Trainer, pl_module: LightningModule) -> None:
        batch = first_batch(trainer, "train", 1) if writers(trainer) else None
        found = None if batch is None else first_kernels(pl_module.model, tuple(batch.inputs[0].shape[1:]))
        if found is not None:
            show(trainer, "kernels", kernels(found))


def feature_maps(model: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """{layer: its maps (C, H, W)} of the first sample, after the activation where one follows the convolution."""
    maps: dict[str, Tensor] = {}

    def look(seen: Seen) -> None:
        if seen.y.ndim == 4 and (isinstance(seen.module, _ConvNd) or seen.layer in maps):
            maps[seen.layer] = seen.y[0]

    watch(model, tuple(None if x is None else x[:1] for x in inputs), look)
    return maps


class FeatureMaps(Callback):
    """One validation image and what each convolution makes of it, after epochs 1, 2, 4, 8, ... and the last."""

    lean = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model: Any = pl_module.model
        convolves = any(isinstance(module, nn.Conv2d) for module in model.modules())
        if not convolves or not pictured(trainer) or not writers(trainer):
            return
        batch = first_batch(trainer, "val", 1)
        maps = {} if batch is None else feature_maps(model, batch.inputs)
        if batch is not None and batch.inputs[0].ndim == 4 and maps:
            show(trainer, "feature_maps", draw_maps(batch.inputs[0][0], maps), "val")
