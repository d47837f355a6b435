"""What a recurrent network makes of time: how far back its gradient reaches, and what its gates do.

Bengio, Simard, Frasconi, "Learning long-term dependencies with gradient descent is difficult", 1994: the gradient of a
state by what was seen many steps before is a product of as many Jacobians; it vanishes or explodes.

Axes: B batch, T steps, D width of a step, H hidden size
"""

import math
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from zoo.callbacks.showing import first_batch, log, pictured, show, writers
from zoo.layers.recurrent import RecurrentNetwork
from zoo.pictures.sequences import gates as draw_gates
from zoo.pictures.sequences import through_time as draw_through_time
from zoo.scratch.recurrent import gates

FEW = 16  # sequences
MOST_STEPS = 1000  # back from the last one
GATE_STEPS = 60  # in a heat map
REACHES = 0.01  # a step is reached while its gradient is at least this share of the last step's


def gradient_by_step(network: RecurrentNetwork, inputs: tuple[Tensor, ...]) -> Tensor:
    """How much the state after the last step depends on the input of each: (T,), the newest step first.

    It is the norm of the gradient of v h_T by the step's input vector, of the first direction of the last layer, a
    mean over sequences; v has entries +-1/sqrt(H), the same in every call. Padding comes last and must be left out.

    Args:
        inputs: what the network takes, (B, T, ...), without padding.
    """
    training = network.training
    network.eval()
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):  # cuDNN goes back only while it trains
        steps = network.steps(inputs[0]).detach().requires_grad_()  # (B, T, D)
        outputs, _ = network.layers(steps)  # (B, T, directions H)
        last = outputs[:, -1, : network.layers.hidden_size]  # (B, H)
        signs = torch.arange(last.shape[1], device=last.device) % 2 * 2.0 - 1
        (gradient,) = torch.autograd.grad((last * signs).sum() / math.sqrt(last.shape[1]), steps)
    network.train(training)
    return gradient.norm(dim=2).mean(0).flip(0)  # (T,)


def reach(norms: Tensor) -> int:
    """Steps back from the last one until the gradient has fallen below a hundredth of its own."""
    below = (norms < REACHES * norms[0]).nonzero()
    return int(below[0]) if len(below) else len(norms)


def unpadded(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The sequences of the most frequent length among the batch's longest, cut to the shortest of them."""
    x, *masks = inputs
    if not masks:
        return (x[:FEW],)
    lengths = masks[0].sum(1)
    longest = lengths.argsort(descending=True)[: max(1, min(FEW, len(x) // 2))]
    return (x[longest, : int(lengths[longest].min())],)


class ThroughTime(Callback):
    """Before training and after epochs 1, 2, 4, 8, ... and the last: the gradient by time step, and the gates at work.

    The number of steps that the gradient reaches back is written as `through_time/reach`.
    """

    lean = True

    def __init__(self) -> None:
        self.lines: dict[str, list[float]] = {}  # of the picture: {when: norm by step}
        self.reached: int | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"lines": {when: list(norms) for when, norms in self.lines.items()}, "reached": self.reached}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.lines, self.reached = state_dict["lines"], state_dict["reached"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.lines:
            self._measure(trainer, pl_module.model, "before training")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if pictured(trainer):
            self._measure(trainer, pl_module.model, f"epoch {trainer.current_epoch + 1}")
            self._draw(trainer, pl_module)

    def _measure(self, trainer: Trainer, network: Any, when: str) -> None:
        if not isinstance(network, RecurrentNetwork) or not trainer.is_global_zero:
            return
        batch = first_batch(trainer, "train", 2 * FEW)
        norms = gradient_by_step(network, unpadded(batch.inputs))[:MOST_STEPS]
        self.lines[when], self.reached = norms.tolist(), reach(norms)

    def findings(self) -> dict[str, float]:
        """What `metrics.json` holds of it: the newest that was measured."""
        return {} if self.reached is None else {"gradient_reach_steps": self.reached}

    def _draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        network: Any = pl_module.model
        if not isinstance(network, RecurrentNetwork) or not writers(trainer):
            return
        log(trainer, {"through_time/reach": float(self.reached or 0)})
        show(trainer, "gradient_through_time", draw_through_time(self.lines), "train")
        if isinstance(network.layers, (nn.LSTM, nn.GRU)):
            part = "train" if (batch := first_batch(trainer, "val", 2)) is None else "val"
            batch = first_batch(trainer, "train", 2) if batch is None else batch
            picture = draw_gates(gates_of(network, unpadded(batch.inputs)), self._texts(trainer, batch))
            show(trainer, "gates", picture, part)

    @staticmethod
    def _texts(trainer: Trainer, batch: Any) -> list[str] | None:
        """What the steps of the heat map are, where they are tokens."""
        tokenizer = getattr(trainer.datamodule, "tokenizer", None)
        first = unpadded(batch.inputs)[0][0]
        return [tokenizer.tokens[i] for i in first[:GATE_STEPS].tolist()] if tokenizer and first.ndim == 1 else None


@torch.no_grad()
def gates_of(network: RecurrentNetwork, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """{gate: (T, H)} of the last layer, while it reads the first sequence."""
    steps = network.steps(inputs[0][:1])[:, :GATE_STEPS]  # (1, T, D)
    return {name: values[0] for name, values in gates(network.layers, steps).items()}
