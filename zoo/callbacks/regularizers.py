"""L1, L2 and max-norm, for any model and optimizer: what keeps weights small beside the loss.

    l1 |w|, proximal          after the step     w = soft_threshold(w, lr l1)
    l1 |w|, subgradient       before the step    gradient += l1 sign(w)
    l2 w^2 / 2, decoupled     before the step    w = (1 - lr l2) w
    l2 w^2 / 2, coupled       before the step    gradient += l2 w
    max-norm                  after the step     w = w min(1, c / |w|), w: all that comes into one hidden unit

L1 and L2 act on matrices and kernels, like weight decay (`zoo.optim.parameter_groups`): not on biases, nor on the gains
of norms. What they add to a gradient is clipped with it. With plain SGD the two kinds of L2 are the same step; with
Adam, which divides the gradient by its own size, they are not (Loshchilov and Hutter 2019, arXiv 1711.05101), and
decoupled is what AdamW does. A soft threshold sets weights to exactly 0; a subgradient lets them swing about it. With
Adam the threshold is lr l1 all the same, for every weight alike.

Max-norm (Srivastava et al. 2014, section 5.1) bounds hidden units alone: the output layer must be free to be sure. Of a
convolution a unit is one kernel over all its input channels; of a recurrent layer, one row of a gate's matrix.

Loss curves show the loss alone, without the penalties.
"""

from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from zoo.errors import UserError, suggest
from zoo.layers.depth import head
from zoo.layers.dropout import KINDS as DROPOUTS
from zoo.layers.weights import LinearMap, linear_maps, maps_of
from zoo.optim import limit_norms, soft_threshold

L1_KINDS, L2_KINDS = ("proximal", "subgradient"), ("decoupled", "coupled")


def weights(optimizer: Any) -> Iterator[tuple[Any, float]]:
    """Each matrix and kernel that has a gradient, with its learning rate."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.ndim >= 2 and parameter.grad is not None:
                yield parameter, float(group["lr"])


class Regularizers(Callback):
    """Changes gradients and weights around each step of the optimizer.

    It keeps no state: what it does follows from the configuration, the weights and the learning rate of the step. It
    stands in the optimizer's own step, so the rate is the one of this step and not what a schedule made of it after,
    and a batch whose gradient is only accumulated changes nothing.

    Args:
        l1, l2: 0 turns it off.
        l1_kind: proximal or subgradient.
        l2_kind: decoupled or coupled.
        max_norm: c; 0 turns it off.
        dropout: inverted or classic; `zoo.build` and `zoo.checkpoint` put the layers into the model.
    """

    lean = True

    def __init__(
        self,
        *,
        l1: float = 0.0,
        l1_kind: str = "proximal",
        l2: float = 0.0,
        l2_kind: str = "decoupled",
        max_norm: float = 0.0,
        dropout: str = "inverted",
    ) -> None:
        for key, value, kinds in (
            ("l1_kind", l1_kind, L1_KINDS),
            ("l2_kind", l2_kind, L2_KINDS),
            ("dropout", dropout, DROPOUTS),
        ):
            if value not in kinds:
                raise UserError(f"There is no regularizer.{key}={value}{suggest(value, kinds)}")
        self.l1, self.proximal = l1, l1_kind == "proximal"
        self.l2, self.decoupled = l2, l2_kind == "decoupled"
        self.max_norm = max_norm
        self.model: Any = None
        self.bounded: list[LinearMap] = []
        self.handles: list[Any] = []

    @property
    def active(self) -> bool:
        return bool(self.l1 or self.l2 or self.max_norm)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for optimizer in trainer.optimizers:
            if isinstance(optimizer, torch.optim.LBFGS) and (self.l1 or self.l2):
                raise UserError(
                    "optimizer=lbfgs searches along the loss, which knows nothing of regularizer.l1 and "
                    "regularizer.l2; choose another optimizer, or regularizer.max_norm."
                )
        self.model = pl_module.model
        self.bounded = self.hidden_maps(self.model) if self.max_norm else []
        self.handles = [optimizer.register_step_post_hook(self.after_step) for optimizer in trainer.optimizers]

    @staticmethod
    def hidden_maps(model: Any) -> list[LinearMap]:
        """What comes into hidden units and is trained. Raises UserError where there is none."""
        output = {id(one.parameter) for one in maps_of(head(model))}
        found = [one for one in linear_maps(model) if id(one.parameter) not in output and one.parameter.requires_grad]
        if not found:
            raise UserError("regularizer.max_norm bounds the weights of hidden units, and none of this model's learn.")
        return found

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        if not self.l2 and (self.proximal or not self.l1):
            return
        with torch.no_grad():
            for parameter, rate in weights(optimizer):
                if self.l1 and not self.proximal:
                    parameter.grad.add_(parameter.sign(), alpha=self.l1)
                if self.l2 and not self.decoupled:
                    parameter.grad.add_(parameter, alpha=self.l2)
                elif self.l2:
                    parameter.mul_(1 - rate * self.l2)

    def after_step(self, optimizer: Any, *arguments: Any) -> None:
        """What the optimizer calls at the end of its step."""
        with torch.no_grad():
            for parameter, rate in weights(optimizer) if self.l1 and self.proximal else ():
                parameter.copy_(soft_threshold(parameter, rate * self.l1))
            for one in self.bounded:
                limit_norms(one.units, self.max_norm)

    def scalars(self) -> dict[str, float]:
        """What `Curves` writes at a log step."""
        return {"norms/zero_share": zero_share(self.model)} if self.l1 else {}

    def findings(self) -> dict[str, float]:
        """What `metrics.json` holds of it: of the weights that were tested."""
        return {"zero_share": zero_share(self.model)} if self.l1 and self.model is not None else {}

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles = []


def zero_share(model: Any) -> float:
    """Share of exact zeros among the values of trainable matrices and kernels."""
    found = [p for p in model.parameters() if p.ndim >= 2 and p.requires_grad]
    total = sum(p.numel() for p in found)
    return 1 - sum(int(p.count_nonzero()) for p in found) / total if total else 0.0
