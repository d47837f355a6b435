"""Learning to learn a class from a few examples: each batch is an episode of a prototypical network.

Snell, Swersky, Zemel 2017; see `zoo.losses.prototypical` for the equations. The network's output is where a sample
lies, not how likely a class is, so it has as many outputs as is wished (`num_outputs`), none of them for a class:
`scripts/few_shot.py` asks it about classes that it has never seen.

Departures from the paper
1. An episode is a batch as it comes: its classes are those of which it has enough, with as many queries as it has. The
   paper draws classes first and then as many samples of each.
2. Of several processes each trains on episodes of its own, its shares of the batches. What is validated and tested
   are the episodes of whole batches, the same for any number of processes.

What is reported: `accuracy` of the queries of each batch, whose examples are its own first samples. A mean over batches
weighs them by their queries. Validation and test know the classes of training; new samples of them, no new classes.

Axes: B batch, F outputs, K examples of each class
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import UserError
from zoo.losses.prototypical import episode_loss, split_episode
from zoo.metrics.codes import in_the_plane
from zoo.pictures.codes import code_map
from zoo.tasks.base import Task


def whole_batches(seen: Mapping[int, tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """Of the shares of all processes, of which each has every n-th sample, the batches in their order.

    Every process must call it.

    Args:
        seen: by number of the batch, outputs (B, F) and labels (B,) of what this process has got.
    """
    shares: list[Any] = [seen]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        shares = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(shares, dict(seen))
    found = []
    for number in sorted({number for share in shares for number in share}):
        parts = [(rank, *share[number]) for rank, share in enumerate(shares) if number in share]
        places = torch.cat([rank + len(shares) * torch.arange(len(labels)) for rank, _, labels in parts])
        order = places.argsort()
        found.append((torch.cat([x for _, x, _ in parts])[order], torch.cat([labels for *_, labels in parts])[order]))
    return found


class Prototypical(Task):
    """A network that puts samples of a class near one another.

    Args:
        model: inputs -> (B, F).
        optimizer, scheduler: see `Task`.
        shots: K, examples of each class in an episode.
        class_names: for pictures.
    """

    batches = ("ImageBatch", "TableBatch", "TextBatch", "SequenceBatch")
    monitor = "val/accuracy"
    mode = "max"

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[..., Any],
        scheduler: Callable[..., Any] | None = None,
        *,
        shots: int = 1,
        class_names: Sequence[str] = (),
    ) -> None:
        super().__init__(model, optimizer, scheduler)
        if shots < 1:
            raise UserError(f"task.shots={shots} must be a whole number from 1 on.")
        self.shots, self.class_names = shots, list(class_names)

    def check(self, batch: Any) -> None:
        super().check(batch)
        if batch.targets.ndim != 1 or batch.targets.is_floating_point():
            raise UserError(
                "task=prototypical is for data with one class a sample; use such data, for instance data=digits."
            )

    def losses(self, batch: Any) -> dict[str, Tensor]:
        return self.judge(self.model(*batch.inputs), batch.targets)

    def judge(self, embedded: Tensor, labels: Tensor) -> dict[str, Tensor]:
        loss, accuracy = episode_loss(embedded, labels, self.shots)
        return {"loss": loss, "accuracy": accuracy}

    def count_items(self, batch: Any) -> float:
        return len(split_episode(batch.targets, self.shots)[1])  # queries

    def start(self, stage: str) -> None:
        super().start(stage)
        self.seen: dict[int, tuple[Tensor, Tensor]] = {}  # by number of the batch: (B, F) and labels (B,)

    def evaluate(self, stage: str, batch: Any) -> None:
        self.seen[self.batch_at_hand[1]] = self.model(*batch.inputs).cpu(), batch.targets.cpu()

    def finish(self, stage: str) -> None:
        batches = whole_batches(self.seen)
        for embedded, labels in batches if self.trainer.global_rank == 0 else ():  # once for all processes
            self.means[stage].add(self.judge(embedded, labels), len(split_episode(labels, self.shots)[1]))
        super().finish(stage)

    def on_train_start(self) -> None:
        data: Any = self.trainer.datamodule
        part, size = data.part("train"), data.train_batch_size
        places = next(iter(data.make_order(part, size, shuffle=True, seed=data.seed)))
        number = self.trainer.world_size
        if any(not len(split_episode(part[places[i::number]].targets, self.shots)[1]) for i in range(number)):
            shares = f", cut into shares for {number} processes," if number > 1 else ""
            raise UserError(
                f"A batch of {size} samples{shares} has no two classes with more than task.shots={self.shots} of them; "
                "give a larger data.batch_size."
            )

    @torch.no_grad()
    def show(self, batch: Any) -> dict[str, Any]:
        """Where samples lie."""
        embedded = self.model(*batch.inputs)
        if not embedded.isfinite().all():
            return {}
        size = embedded.shape[1]
        title = f"the {size} outputs" if size <= 2 else f"first two principal components of {size} outputs"
        return {"codes": code_map(in_the_plane(embedded), batch.targets, self.class_names, title=title)}
