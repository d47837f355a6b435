"""Learning a stack layer by layer, and the denoising autoencoders that are learned so.

While one layer learns, those below it are fixed and make its data; those above it wait. Which one learns is a pure
function of the epoch, so that a run that is resumed goes on with the right one.

The denoising task: a layer sees its input with some values set to 0, and what it decodes is compared with the input as
it was (Vincent et al. 2010, see zoo/models/stacked_autoencoder.py).

    loss = -sum_i x_i log z_i + (1 - x_i) log(1 - z_i)        in nats a sample; of Gaussian units |x - z|^2 / 2

Axes: B batch, V units that a layer sees, H units that it has
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import UserError
from zoo.losses.boltzmann import reconstruction_loss
from zoo.noise import Noise
from zoo.pictures.boltzmann import hidden_activity, side_by_side
from zoo.pictures.codes import rows_said_again
from zoo.pictures.layers import kernels
from zoo.tasks.base import Task

SHOWN = 10  # samples that are reconstructed in a picture
METHODS = ("hidden_logits", "visible_logits", "sample_hidden", "sample_visible", "free_energy")


def level_at(epoch: int, num_layers: int, epochs_per_layer: int | None, max_epochs: int) -> int:
    """Which layer learns in an epoch, both counted from 0.

    Args:
        epochs_per_layer: the last layer has what is left over. None: equal shares of `max_epochs`; where there are
            fewer epochs than layers, some of the layers stay as they were.
    """
    if epochs_per_layer is None and max_epochs < 1:
        raise UserError("Layers take turns, and this run has no last epoch; give task.epochs_per_layer.")
    level = epoch * num_layers // max_epochs if epochs_per_layer is None else epoch // epochs_per_layer
    return min(level, num_layers - 1)


class LayerByLayer(Task):
    """What the tasks for stacks have in common.

    Args:
        model: has `layers`, machines as in `zoo.layers.boltzmann`, and `up` and `down` between a sample and each.
        optimizer, scheduler: see `Task`.
        seed: of what is drawn.
        epochs_per_layer: see `level_at`.

    Attributes:
        layers: from the data upwards.
        monitor: of several layers the best epoch is one of the last layer, whose loss is least.
    """

    batches = ("ImageBatch", "TableBatch")
    shows_every_epoch = True

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[..., Any],
        scheduler: Callable[..., Any] | None = None,
        *,
        seed: int = 0,
        epochs_per_layer: int | None = None,
    ) -> None:
        super().__init__(model, optimizer, scheduler)
        found: Any = getattr(model, "layers", None)
        if not isinstance(found, Iterable) or not all(hasattr(layer, name) for layer in found for name in METHODS):
            raise UserError(
                f"{type(model).__name__} is no stack of layers that each learn by themselves; use model=rbm, model=dbn "
                "or model=stacked_autoencoder."
            )
        if getattr(model, "classify", None) is not None:
            raise UserError("A stack that learns layer by layer has no classes yet; leave model.num_outputs out.")
        self.layers: list[Any] = list(found)
        self.seed, self.epochs_per_layer = seed, epochs_per_layer
        if len(self.layers) > 1:
            self.monitor, self.mode = "val/layer", "max"

    def configure_optimizers(self) -> Any:
        found = super().configure_optimizers()
        if len(self.layers) < 2:
            return found
        if any(isinstance(callback, EarlyStopping) for callback in self.trainer.callbacks):
            raise UserError(
                "callbacks.early_stopping would end the run while the first layers learn, and the others never would; "
                "leave it out, and give trainer.max_epochs or task.epochs_per_layer."
            )
        if isinstance(found, dict) and "monitor" in found.get("lr_scheduler", {}):
            raise UserError(
                "scheduler=plateau would take the losses of one layer after another for those of one; use another, "
                "such as scheduler=cosine."
            )
        return found

    def check(self, batch: Any) -> None:
        super().check(batch)
        x = batch.inputs[0]
        if self.layers[0].is_binary and not (float(x.min()) >= 0 and float(x.max()) <= 1):
            raise UserError(
                "model.visible=bernoulli is for values from 0 to 1, and this data has others; use data.normalize=false "
                "for images, or model.visible=gaussian."
            )

    @property
    def is_attached(self) -> bool:
        """Whether there is a trainer, which knows epochs and processes."""
        return self._trainer is not None

    @property
    def level(self) -> int:
        """Of the layer that learns; once there is nothing more to learn, the top one."""
        if self.batch_at_hand[0] == "test":
            return len(self.layers) - 1
        most = (self.trainer.max_epochs or -1) if self.is_attached else 1
        return level_at(self.current_epoch, len(self.layers), self.epochs_per_layer, most)

    def start(self, stage: str) -> None:
        super().start(stage)
        self.batch_at_hand = (stage, 0)

    @torch.no_grad()
    def seen(self, x: Tensor) -> Tensor:
        """Samples (B, ...) -> what the layer that learns sees of them, (B, V)."""
        model: Any = self.model
        return model.up(x, self.level)

    def draw(self, name: str, size: int, like: Tensor, rows: int | None = None) -> Tensor:
        """Uniform noise (B, size), a function of seed, place and name; see `zoo.noise`.

        Args:
            rows: of all processes together; None: those of a batch.
        """
        if not self.is_attached:
            return Noise(self.seed).uniform((size,), at=(*self.place(), name), rows=rows or len(like), like=like)
        data = self.trainer.datamodule
        batch_size = data.train_batch_size if self.batch_at_hand[0] == "train" else data.eval_batch_size
        return self.noise(self.seed).uniform((size,), at=(*self.place(), name), rows=rows or batch_size, like=like)

    @property
    def others(self) -> list[Tensor]:
        """Parameters of the layers that do not learn now."""
        return [p for level, layer in enumerate(self.layers) if level != self.level for p in layer.parameters()]

    @property
    def together(self) -> bool:
        """Whether several processes learn, which must all have a gradient of every parameter, if only zeros."""
        return self.is_attached and self.trainer.world_size > 1

    def on_after_backward(self) -> None:
        # No gradient is not a gradient of zero, which momentum and weight decay would act on.
        super().on_after_backward()
        for parameter in self.others:
            parameter.grad = None

    def whole_set_metrics(self, stage: str) -> dict[str, float]:
        return {"layer": self.level + 1.0} if len(self.layers) > 1 else {}

    # ---- what is worth seeing

    @torch.no_grad()
    def show(self, batch: Any) -> dict[str, Any]:
        """Filters, reconstructions and hidden activity of the layer that learns."""
        model: Any = self.model
        x = batch.inputs[0]
        h = self.layers[self.level](self.seen(x))  # (B, H)
        shown: dict[str, Any] = {"hidden_activity": hidden_activity(h)}
        if len(model.image_shape) == 3:
            shown["filters"] = kernels(self.filters())
            shown["reconstructions"] = side_by_side(x[:SHOWN], model.down(h[:SHOWN], self.level + 1))
        else:
            shown["reconstructions"] = rows_said_again(x, model.down(h, self.level + 1))
        return shown

    def filters(self) -> Tensor:
        """(H, *image_shape): what each unit looks for; of higher layers the sum of those below, weighted."""
        model: Any = self.model
        weights = self.layers[0].weight  # (V, H)
        for layer in self.layers[1 : self.level + 1]:
            weights = weights @ layer.weight  # (V, H)
        return weights.T.unflatten(1, model.image_shape)


class DenoisingLayers(LayerByLayer):
    """A stack of denoising autoencoders.

    Args:
        model, optimizer, scheduler, seed, epochs_per_layer: see `LayerByLayer`.
        corruption: share of the values that are set to 0 before each layer, from the data upwards; layers beyond the
            list take its last.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[..., Any],
        scheduler: Callable[..., Any] | None = None,
        *,
        seed: int = 0,
        epochs_per_layer: int | None = None,
        corruption: Sequence[float] = (0.1, 0.2, 0.3),
    ) -> None:
        super().__init__(model, optimizer, scheduler, seed=seed, epochs_per_layer=epochs_per_layer)
        if not corruption or not all(0 <= share < 1 for share in corruption):
            raise UserError("task.corruption needs numbers from 0 on and below 1, for instance [0.1,0.2,0.3].")
        self.corruption = list(corruption)

    def losses(self, batch: Any) -> dict[str, Tensor]:
        layer, x = self.layers[self.level], self.seen(batch.inputs[0])  # (B, V)
        share = self.corruption[min(self.level, len(self.corruption) - 1)]
        kept = self.draw("kept", x.shape[1], x) >= share  # (B, V)
        logits = layer.visible_logits(layer(x * kept))  # (B, V)
        loss = reconstruction_loss(logits, x, layer.is_binary)
        if self.together:
            loss = loss + 0.0 * torch.stack([p.sum() for p in self.others]).sum() if self.others else loss
        with torch.no_grad():
            error = F.mse_loss(layer.means(logits), x, reduction="sum") / max(1, len(x))
        return {"loss": loss, "reconstruction_error": error}
