"""The base of every training algorithm: what is minimized, what is watched, and when it is averaged.

A task knows a model by its call alone. It never logs from inside a training step: it keeps the newest values in
`latest` and their epoch means in `means`, and the callbacks read them when it is time. That keeps a step cheap.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from zoo.errors import UserError
from zoo.noise import Noise
from zoo.optim import build_optimizer


def add_up(tensor: Tensor) -> None:
    torch.distributed.all_reduce(tensor)


def unreached(loss: Tensor, parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """The parameters that a loss does not depend on, such as those of a head that nobody asks."""
    seen: set[Any] = set()
    reached, waiting = set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        reached.add(id(getattr(node, "variable", None)))
        waiting += [before for before, _ in node.next_functions]
    return [parameter for parameter in parameters if parameter.requires_grad and id(parameter) not in reached]


class Means:
    """Means over items (samples, tokens or steps, see `Task.num_items`) of values that are means over a batch."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.sums: dict[str, Any] = {}
        self.counts: dict[str, float] = {}

    def add(self, values: dict[str, Tensor], num_items: float, others: Mapping[str, float] | None = None) -> None:
        """Takes a batch into account.

        Args:
            others: of values that are means over something else, such as samples: over how many.
        """
        for name, value in values.items():
            count = (others or {}).get(name, num_items)
            # Numbers on the CPU cost nothing to read; on another device reading would wait for it, so tensors are kept.
            amount = value.item() * count if value.device.type == "cpu" else value.double() * count
            self.sums[name] = self.sums.get(name, 0.0) + amount
            self.counts[name] = self.counts.get(name, 0) + count

    def state_dict(self) -> dict[str, Any]:
        return {"sums": {name: float(amount) for name, amount in self.sums.items()}, "counts": dict(self.counts)}

    def load_state_dicts(self, states: list[dict[str, Any]]) -> None:
        """Goes on from what one or several processes have counted."""
        self.reset()
        for state in states:
            counts = state.get("counts") or dict.fromkeys(
                state["sums"], state.get("num_items", 0)
            )  # of older checkpoints
            for name, amount in state["sums"].items():
                self.sums[name] = self.sums.get(name, 0.0) + amount
                self.counts[name] = self.counts.get(name, 0) + counts[name]

    def so_far(self) -> dict[str, float]:
        """The means in this process alone."""
        return {name: float(amount) / (self.counts[name] or 1) for name, amount in self.sums.items()}

    def compute(self) -> dict[str, float]:
        """The means over all processes; every process must call it, also one that has seen nothing."""
        everywhere = self
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            states: list[Any] = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(states, self.state_dict())
            everywhere = Means()
            everywhere.load_state_dicts(states)
        return everywhere.so_far()


class Task(LightningModule):
    """One training algorithm over one model.

    Args:
        model: a plain network; its call signature is the batch's `inputs`.
        optimizer: partial torch optimizer, called with the trainable parameters.
        scheduler: function of `zoo.optim`, or None for a constant rate.

    Attributes:
        monitor, mode: the metric that picks the best checkpoint, and whether more ("max") or less ("min") is better.
        latest: values of the newest training batch, detached.
        means: epoch means of each stage.
    """

    monitor = "val/loss"
    mode = "min"
    batches: tuple[str, ...] = ()  # of zoo.batches, that it takes; none named: any
    shows_every_epoch = False  # whether `show` is worth its time after every epoch, not only after 1, 2, 4, 8, ...
    lean = True  # logs nothing from inside a training step (zoo.running.loop)
    by_sample: tuple[str, ...] = ()  # of the losses, those that are means over samples where items are something else

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., dict[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.build_optimizer = optimizer
        self.build_scheduler = scheduler
        self.latest: dict[str, Tensor] = {}
        self.means = {stage: Means() for stage in ("train", "val", "test")}
        self.num_samples: int = 0  # in the newest training batch, in this process
        self.num_items: float = 0  # what the losses are means over, or its weight
        self.num_samples_everywhere: int = 0  # the same over all processes
        self.num_items_everywhere: float = 0
        self.items_since_update: float = 0  # over all processes, where several batches make an update
        self.counted = True  # whether the newest training batch is in the means
        self.batch_at_hand: tuple[str, int] = ("train", 0)  # its stage and number
        self.carried: Any = None  # tensors that one training batch leaves to the next, such as a recurrent state
        self.rates: Mapping[nn.Parameter, float] = {}  # factors of the learning rate, of fine-tuning
        self.wishes: Sequence[float] = ()  # of callbacks: summed over the processes within the step
        self.add_up: Callable[[Tensor], object] = add_up  # replaces a tensor by its sum over the processes
        self.gradient_of_nothing: Callable[[], Tensor | float] = float  # 0; in it, layers that wait for each other meet
        self.totals_come_with_gradients = False  # samples and wishes are summed where gradients are (zoo.callbacks)
        self.idle: list[nn.Parameter] | None = None  # of several processes: what no loss depends on; None: not known
        self.searches = False  # the optimizer decides by the loss how far to go

    @abstractmethod
    def losses(self, batch: Any) -> dict[str, Tensor]:
        """What train, validation and test share: "loss", which is minimized, and what else is worth watching.

        Each value is a mean over the batch's items, of shape ().
        """

    @classmethod
    def check_kind(cls, batch: Any) -> None:
        """Raises UserError where a batch of the data is not of a kind that the task is for."""
        kinds = [kind.__name__ for kind in type(batch).__mro__]
        if cls.batches and not set(cls.batches) & set(kinds):
            raise UserError(
                f"{cls.__name__} is for a {' or '.join(cls.batches)}, and the data gives a {kinds[0]}; use "
                "other data, or leave task= out, where it was typed: the data brings its own."
            )

    @classmethod
    def compared_by(cls, config: Mapping[str, Any]) -> tuple[str, str]:
        """Metric and mode by which runs are told better from worse before there is one, as by a sweep.

        Args:
            config: of a run, as it is typed; references in it are not resolved.
        """
        return cls.monitor, cls.mode

    def check(self, batch: Any) -> None:
        """Raises UserError where the losses are not for a batch of the data, or not for this model."""
        self.check_kind(batch)

    def initialize(self, data: Any) -> list[str]:
        """Tells a network that has learnt nothing yet of its data; what it was told, a line each."""
        return []

    def count_items(self, batch: Any) -> float:
        """How many items the losses of a batch are means over: its samples; a task of sequences counts their steps."""
        return len(batch.inputs[0])

    def over_samples(self, number: int) -> dict[str, float]:
        """Over how many samples those losses are means that are not means over items."""
        return dict.fromkeys(self.by_sample, number)

    def derived(self, means: dict[str, float]) -> dict[str, float]:
        """Metrics that follow from the means of a whole pass, such as perplexity."""
        return {}

    def show(self, batch: Any) -> dict[str, Any]:
        """What is worth seeing of one validation batch: {name: figure, image tensor (3, H, W) or text}."""
        return {}

    def configure_optimizers(self) -> Any:
        if not any(p.requires_grad for p in self.model.parameters()):
            raise UserError("No parameter of the model is trainable; choose another finetune= option.")
        try:
            optimizer = build_optimizer(self.build_optimizer, self.model, self.rates)
            self.searches = isinstance(optimizer, torch.optim.LBFGS)
            if self.build_scheduler is None:
                return optimizer
            return {"optimizer": optimizer, "lr_scheduler": self.build_scheduler(optimizer, *self.planned_updates())}
        except (ValueError, TypeError, IndexError, ZeroDivisionError) as error:
            raise UserError(f"The optimizer or its schedule refuses its settings: {error}") from error

    def planned_updates(self) -> tuple[int, int]:
        """Updates of the whole run, and of one epoch.

        Lightning's `estimated_stepping_batches` would open the loaders before a checkpoint is read, and a resumed epoch
        would then start from its first batch.
        """
        trainer = self.trainer
        batches, limit = len(trainer.datamodule.train_dataloader()), trainer.limit_train_batches
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        per_epoch = max(1, math.ceil(batches / trainer.accumulate_grad_batches))
        total = per_epoch * trainer.max_epochs if (trainer.max_epochs or -1) > 0 else trainer.max_steps
        return (min(total, trainer.max_steps) if trainer.max_steps > 0 else total), per_epoch

    def on_train_epoch_start(self) -> None:
        self.means["train"].reset()
        self.carried = None
        self.start("val")  # what was seen after an older epoch is not shown as this one's

    def noise(self, seed: int) -> Noise:
        """What is drawn in training, by this process."""
        return Noise(seed, rank=self.trainer.global_rank, world_size=self.trainer.world_size)

    def place(self) -> tuple[int | str, int]:
        """Where the batch at hand lies: epoch and number in training, else stage and number."""
        stage, number = self.batch_at_hand
        return (self.current_epoch if stage == "train" else stage), number

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.batch_at_hand = ("train", batch_idx)
        losses = self.losses(batch)
        loss = losses["loss"]
        self.latest, self.counted = {name: value.detach() for name, value in losses.items()}, False
        self.num_samples = self.num_samples_everywhere = len(batch.inputs[0])
        self.num_items = self.num_items_everywhere = self.count_items(batch)
        if self.trainer.world_size > 1:
            if self.num_samples == 0:  # fewer samples left than processes: nothing to learn here, but all must step
                self.latest = {name: torch.zeros_like(value) for name, value in self.latest.items()}
                loss = torch.stack([p.sum() for p in self.model.parameters()]).sum() * 0.0
                loss = loss + self.gradient_of_nothing()
            elif self.idle is None:
                self.idle = unreached(loss, self.model.parameters())
            for parameter in self.idle or ():  # the processes wait for a gradient of each
                loss = loss + 0.0 * parameter.sum()
            if not self.totals_come_with_gradients:
                loss = loss * self._share()
            if self.searches:
                loss = loss + (self._everywhere(losses["loss"]) - loss.detach())
        number = self.trainer.accumulate_grad_batches
        return loss if number == 1 else self.accumulated(loss, batch_idx % number == 0, number)

    def accumulated(self, loss: Tensor, first: bool, number: int) -> Tensor:
        """The loss of one of several batches before an update, so that their gradient is that of the mean over items.

        What is there is the gradient of a mean over the items so far, so it shrinks as theirs come in. That is right
        wherever the update comes, at the end of an epoch after fewer batches, too.

        Args:
            loss: mean over the items of the batch.
            first: whether it is the first batch after an update.
            number: batches to an update, by which Lightning divides each loss.
        """
        before = 0 if first else self.items_since_update
        self.items_since_update = before + self.num_items_everywhere
        share = self.num_items_everywhere / (self.items_since_update or 1)
        for parameter in self.model.parameters() if before else ():
            if parameter.grad is not None:
                parameter.grad.mul_(1 - share)
        return loss * (share * number)

    def on_after_backward(self) -> None:
        # No gradient is not a gradient of zero, which momentum and weight decay would act on.
        for parameter in self.idle or ():
            parameter.grad = None

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        # Not in training_step, which an optimizer with a line search calls several times a batch.
        self.count()

    def count(self) -> None:
        """Takes the newest training batch into the means, once; a callback that saves them comes before this task."""
        if not self.counted:
            self.means["train"].add(self.latest, self.num_items, self.over_samples(self.num_samples))
            self.counted = True

    def _share(self) -> float:
        """Weight of this process's mean loss, so that the average over processes is the mean over the global batch.

        The wishes of callbacks travel in the same message, so that all processes agree at no further cost.
        """
        totals = torch.tensor(self.shares(), dtype=torch.float64, device=self.device)
        self.add_up(totals)
        self.take_totals(totals.tolist())
        return self.num_items * self.trainer.world_size / (self.num_items_everywhere or 1)

    def _everywhere(self, loss: Tensor) -> Tensor:
        """The loss of the global batch, the same number in all processes: a line search goes the same way in each."""
        amount = float(loss) * self.num_items if self.num_items else 0.0
        totals = torch.tensor([amount, self.num_items], dtype=torch.float64, device=loss.device)
        self.add_up(totals)
        return (totals[0] / totals[1]).to(loss.dtype)

    def shares(self) -> list[float]:
        """What this process adds to the totals of a step."""
        return [self.num_items, self.num_samples, *self.wishes]

    def take_totals(self, totals: Sequence[float]) -> None:
        """The sums of all processes' `shares`."""
        items, samples, *self.wishes = totals
        self.num_items_everywhere, self.num_samples_everywhere = items, int(samples)

    def newest(self) -> dict[str, float]:
        """Values of the newest training batch, over all processes; every process must call it."""
        if self.trainer.world_size == 1 or not self.latest:
            return {name: float(value) for name, value in self.latest.items()}
        here, everywhere = self.over_samples(self.num_samples), self.over_samples(self.num_samples_everywhere)
        counts = [here.get(name, self.num_items) for name in self.latest]
        values = torch.stack(list(self.latest.values())).double()
        totals = values * torch.tensor(counts, dtype=values.dtype, device=values.device)
        self.add_up(totals)
        numbers = [everywhere.get(name, self.num_items_everywhere) or 1 for name in self.latest]
        return {name: total / number for name, total, number in zip(self.latest, totals.tolist(), numbers, strict=True)}

    def on_train_epoch_end(self) -> None:
        self._log("train", self.train_means())

    def train_means(self) -> dict[str, float]:
        """Means over the epoch so far; every process must call it."""
        means = self.means["train"].compute()
        return means | self.derived(means)

    def on_validation_epoch_start(self) -> None:
        self.start("val")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.batch_at_hand = ("val", batch_idx)
        if len(batch.inputs[0]):  # of a small part, some processes may get nothing
            self.evaluate("val", batch)

    def on_validation_epoch_end(self) -> None:
        self.finish("val")

    def on_test_epoch_start(self) -> None:
        self.start("test")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.batch_at_hand = ("test", batch_idx)
        if len(batch.inputs[0]):  # of a small part, some processes may get nothing
            self.evaluate("test", batch)

    def on_test_epoch_end(self) -> None:
        self.finish("test")

    def start(self, stage: str) -> None:
        """Forgets what an earlier pass over the same part has seen."""
        self.means[stage].reset()

    def evaluate(self, stage: str, batch: Any) -> None:
        """Takes one batch of validation ("val") or "test" into account."""
        samples = self.over_samples(len(batch.inputs[0]))
        self.means[stage].add(self.losses(batch), self.count_items(batch), samples)

    def finish(self, stage: str) -> None:
        """Logs the metrics of a whole pass."""
        means = self.means[stage].compute()
        self._log(stage, means | self.derived(means) | self.whole_set_metrics(stage))

    def _log(self, stage: str, metrics: dict[str, float]) -> None:
        # As tensors: Lightning would round numbers to float32.
        exact = {f"{stage}/{name}": torch.tensor(value, dtype=torch.float64) for name, value in metrics.items()}
        self.log_dict(exact, logger=False)

    def whole_set_metrics(self, stage: str) -> dict[str, float]:
        """Metrics that are no mean over samples, such as F1; torchmetrics brings them together over processes."""
        return {}
