"""What every data set of the zoo shares: three parts, an order of samples that repeats, and loaders.

The order is a pure function of (seed, epoch, position), so it does not depend on the number of workers or processes,
and a run that stops inside an epoch goes on with the sample that comes next.

Axes: N samples in a part, B batch
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from zoo.errors import UserError

PARTS = ("train", "val", "test")


class BatchOrder(Sampler[Tensor]):
    """Yields the sample indices of one batch after another.

    A global batch has `batch_size` samples over all processes; process `rank` of `world_size` takes every
    `world_size`-th of them, so that the union over the processes is the batch that one process would see. Nothing is
    padded: the last batch may be smaller, and no sample is seen twice.
    """

    def __init__(
        self, num_samples: int, batch_size: int, *, shuffle: bool, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        self.num_samples, self.batch_size, self.shuffle, self.seed = num_samples, batch_size, shuffle, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        self.first_batch = 0  # above 0 when an interrupted epoch goes on

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.num_samples // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            order = torch.randperm(self.num_samples, generator=generator)  # (N,)
        else:
            order = torch.arange(self.num_samples)  # (N,)
        for start in range(self.first_batch * self.batch_size, self.num_samples, self.batch_size):
            yield order[start : start + self.batch_size][self.rank :: self.world_size]


class OrderWithEpoch(Sampler[tuple[Tensor, int]]):
    """The batches of an order, each with its epoch: what a worker process must be told to augment a sample."""

    def __init__(self, order: BatchOrder) -> None:
        self.order = order

    def set_epoch(self, epoch: int) -> None:
        self.order.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        epoch = self.order.epoch
        for indices in self.order:
            yield indices, epoch


def as_is(batch: Any) -> Any:
    """Collate function of data sets that return whole batches."""
    return batch


class Loader(DataLoader):
    """A DataLoader that fetches whole batches and remembers how far into the epoch it is."""

    def __init__(self, dataset: Dataset, order: BatchOrder, *, num_workers: int = 0, **options: Any) -> None:
        super().__init__(
            dataset,
            sampler=OrderWithEpoch(order) if isinstance(dataset, Augmented) else order,
            batch_size=None,
            collate_fn=as_is,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            # A generator of its own: opening a loader must not draw from the global one, or a resumed run would differ.
            generator=torch.Generator().manual_seed(order.seed),
            **options,
        )
        self.order = order
        self.batches_done = 0
        self._first_batch = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self.order.first_batch = self.batches_done = self._first_batch
        self._first_batch = 0
        batches = super().__iter__()
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except UserError as error:
                # A worker process wraps what it raises in its own traceback; the last line is what a user can mend.
                last = str(error).strip().splitlines()[-1]
                raise UserError(last.removeprefix("zoo.errors.UserError: ")) from None
            self.batches_done += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        # At the end of an epoch the next one starts from its first batch.
        return {"batches_done": self.batches_done % len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._first_batch = state["batches_done"]


class InMemory(Dataset):
    """Tensors with N rows; an index tensor gives a whole batch in one go.

    Args:
        make_batch: (rows of each tensor) -> a batch of `zoo.batches`; converts and normalizes.
        tensors: each with N rows, for instance uint8 images and int64 labels.
    """

    def __init__(self, make_batch: Callable[..., Any], *tensors: Tensor) -> None:
        self.make_batch, self.tensors = make_batch, tensors

    def __len__(self) -> int:
        return len(self.tensors[0])

    def rows(self, indices: Tensor) -> tuple[Tensor, ...]:
        """What `make_batch` makes a batch of."""
        return tuple(tensor[indices] for tensor in self.tensors)

    def __getitem__(self, indices: Tensor) -> Any:
        return self.make_batch(*self.rows(indices))

    def take(self, indices: Tensor) -> "InMemory":
        return InMemory(self.make_batch, *self.rows(indices))


class Augmented(Dataset):
    """A data set whose raw samples are changed before they become a batch.

    Args:
        dataset: has `rows(indices)`, raw tensors of which the first is changed, and `make_batch(*rows)`; where the
            others lie in the first, as masks do, also `moved(augment, others, indices, epoch, seed)`.
        augment: (raw samples, indices (B,), epoch, seed) -> raw samples, a pure function; see `zoo.augment`.
        seed: of the augmentation.
    """

    def __init__(self, dataset: Any, augment: Callable[..., Tensor], *, seed: int) -> None:
        self.dataset, self.augment, self.seed = dataset, augment, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: tuple[Tensor, int]) -> Any:
        indices, epoch = place
        samples, *others = self.dataset.rows(indices)
        if hasattr(self.dataset, "moved"):
            others = self.dataset.moved(self.augment, others, indices, epoch, self.seed)
        return self.dataset.make_batch(self.augment(samples, indices, epoch, self.seed), *others)


class Split(NamedTuple):
    """Sample indices of the three parts, disjoint."""

    train: Tensor
    val: Tensor
    test: Tensor


def checked_shares(shares: Sequence[float]) -> tuple[float, float, float]:
    """Shares of train, val and test. Raises UserError where they are none; only train must not be empty."""
    if len(shares) != 3 or min(shares) < 0 or shares[0] <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise UserError(f"data.shares={list(shares)} must be shares of train, val and test that sum to 1.")
    return shares[0], shares[1], shares[2]


def lacking(parts: Iterable[str], shares: Sequence[float], what: str = "rows") -> list[str]:
    """A line for each part that was asked for and has got no sample."""
    wanted = [name for name, share in zip(PARTS, shares, strict=True) if share > 0]
    return [f"There are too few {what} for a {name} part." for name in wanted if name not in parts]


def split_indices(
    num_samples: int, shares: tuple[float, float, float], *, seed: int, labels: np.ndarray | None = None
) -> Split:
    """Cuts 0..N-1 into three disjoint parts, a pure function of the seed.

    Args:
        shares: of train, val and test; they sum to 1.
        labels: (N,) class of each sample. Given, each class is cut by the same shares (stratified).
    """
    generator = np.random.default_rng(seed)
    groups = [np.arange(num_samples)] if labels is None else [np.flatnonzero(labels == k) for k in np.unique(labels)]
    parts: tuple[list, list, list] = ([], [], [])
    for group in groups:
        group = generator.permutation(group)
        first = len(group) - round(len(group) * (shares[1] + shares[2]))
        second = len(group) - round(len(group) * shares[2])
        for part, piece in zip(parts, (group[:first], group[first:second], group[second:]), strict=True):
            part.append(piece)
    return Split(*(torch.from_numpy(np.sort(np.concatenate(part))) for part in parts))


@dataclass
class Loaded:
    """What a data set turned out to be once it was read.

    Args:
        parts: data set of each part, `train` always, `val` and `test` where there are samples.
        facts: sizes that models and tasks are built from: num_features, num_classes, num_targets, image_shape, ...;
            for regression also target_mean and target_std, by which the targets in the batches were standardized.
        preprocessing: plain containers from which new inputs are prepared alike (`zoo.data.images`, `zoo.data.table`).
        class_names: names of the K classes, or of the target columns.
        train_labels: (N,) labels of the training part, for class weights and baselines; None where there is no class.
        notes: what the user should know, a line each.
        names: where each sample of a part came from, for people; without a part where nobody could look it up.
    """

    parts: dict[str, Dataset]
    facts: dict[str, Any]
    preprocessing: dict[str, Any]
    class_names: list[str] = field(default_factory=list)
    train_labels: Tensor | None = None
    notes: list[str] = field(default_factory=list)
    fingerprint: str = ""
    names: dict[str, list[str]] = field(default_factory=dict)


class DataModule(LightningDataModule):
    """Base of every data set: subclasses read the data in `load`.

    Args:
        batch_size: samples in one global batch; "full" is the whole training part (batch gradient descent).
        eval_batch_size: samples in one batch of validation and test.
        seed: of the split, of the order of samples and of their augmentation.
        fraction: share of the training part that is used, in (0, 1], for learning curves.
        num_workers: loader processes; 0 for data that lies in memory.
        overfit: train, validate and test on one and the same batch, to see whether a model can learn at all.
    """

    def __init__(
        self,
        *,
        batch_size: int | str = 64,
        eval_batch_size: int = 512,
        seed: int = 0,
        fraction: float = 1.0,
        num_workers: int = 0,
        overfit: bool = False,
    ) -> None:
        super().__init__()
        if batch_size != "full" and (not isinstance(batch_size, int) or batch_size < 1):
            raise UserError(f"data.batch_size={batch_size} must be a whole number from 1 on, or 'full'.")
        if eval_batch_size < 1:
            raise UserError(f"data.eval_batch_size={eval_batch_size} must be at least 1.")
        if not 0 < fraction <= 1:
            raise UserError(f"data.fraction={fraction} must be above 0 and at most 1.")
        self.batch_size, self.eval_batch_size, self.seed = batch_size, eval_batch_size, seed
        self.fraction, self.num_workers, self.overfit = fraction, num_workers, overfit
        self.augment: Callable[..., Tensor] | None = None  # of the training batches alone; see `Augmented`
        self.loaded: Loaded | None = None
        self.earlier: dict[str, Any] | None = None
        self.earlier_classes: list[str] = []

    def prepare_as(self, preprocessing: dict[str, Any], class_names: Sequence[str] = ()) -> None:
        """Prepares inputs and labels as an earlier run did, instead of fitting to the training part that is read.

        Args:
            preprocessing, class_names: of that run's `Loaded`.
        """
        self.earlier, self.earlier_classes, self.loaded = preprocessing, list(class_names), None

    adopts: str = ""  # the kind of preprocessing that `adopt` takes as it is: that of texts, which have a vocabulary

    def adopt(self, preprocessing: dict[str, Any]) -> str:
        """Prepares inputs as those of a pretrained network were, in what its weights rely on; the labels stay its own.

        Args:
            preprocessing: of the `Loaded` that it was trained on.

        Returns:
            What was taken, in a few words; empty where this data has nothing of the kind.
        """
        if not self.adopts or preprocessing.get("kind") != self.adopts:
            return ""
        self.prepare_as(preprocessing)
        return "its vocabulary"

    imports: tuple[str, ...] = ()  # what `load` imports late because it takes long

    def fetch(self) -> None:
        """Brings what `load` reads to this machine, where it is not there yet. One process of a machine calls it."""

    @abstractmethod
    def load(self) -> Loaded:
        """Reads the data. Raises UserError where it is missing or broken."""

    def prepare(self) -> Loaded:
        """Reads the data once and cuts the training part where that is asked for."""
        if self.loaded is None:
            self.fetch()
            loaded = self.load()
            if self.fraction < 1 or self.overfit:
                self._cut(loaded)
            if len(loaded.parts["train"]) == 0:  # type: ignore[arg-type]
                raise UserError("The training part of the data is empty; give it more samples or a larger share.")
            self.loaded = loaded
        return self.loaded

    def _cut(self, loaded: Loaded) -> None:
        train = loaded.parts["train"]
        total = len(train)  # type: ignore[arg-type]
        order = torch.randperm(total, generator=torch.Generator().manual_seed(self.seed))
        keep = max(1, round(total * self.fraction))
        if self.overfit:
            keep = min(keep, total if self.batch_size == "full" else int(self.batch_size))
        indices = order[:keep].sort().values
        loaded.parts["train"] = train.take(indices)  # type: ignore[attr-defined]
        if "train" in loaded.names:
            loaded.names["train"] = [loaded.names["train"][i] for i in indices.tolist()]
        if loaded.train_labels is not None:
            loaded.train_labels = loaded.train_labels[indices]
            if "label_counts" in loaded.facts:
                counts = torch.bincount(loaded.train_labels, minlength=loaded.facts["num_classes"])
                loaded.facts["label_counts"] = counts.tolist()
        if self.overfit:
            loaded.parts["val"] = loaded.parts["test"] = loaded.parts["train"]
            loaded.names = dict.fromkeys(PARTS, loaded.names["train"]) if loaded.names else {}

    def suits(self, augment: Any) -> bool:
        """Whether an augmentation, or the class of one, is for samples of the kind that this data set has."""
        train, first = self.part("train"), torch.arange(1)
        if not hasattr(augment, "suits"):
            return True  # somebody's own, which must know
        if not hasattr(train, "rows"):
            return False
        rows = train.rows(first)
        batch_type = getattr(train, "augmented_as", type(train.make_batch(*rows)).__name__)  # type: ignore[attr-defined]
        return augment.suits(batch_type, rows[0])

    def part(self, name: str) -> Dataset:
        parts = self.prepare().parts
        if name not in parts:
            raise UserError(f"This data set has no '{name}' part; it has {', '.join(parts)}.")
        return parts[name]

    @property
    def train_batch_size(self) -> int:
        total = len(self.part("train"))  # type: ignore[arg-type]
        return total if self.batch_size == "full" else int(self.batch_size)

    def make_order(self, dataset: Any, batch_size: int, **options: Any) -> BatchOrder:
        """Which samples each batch of a part has; a data set with an order of its own overrides it."""
        return BatchOrder(len(dataset), batch_size, **options)

    def loader(self, name: str, *, shuffle: bool = False, batch_size: int | None = None) -> Loader:
        dataset = self.part(name)
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        order = self.make_order(
            dataset,
            batch_size or self.eval_batch_size,
            shuffle=shuffle,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
        )
        return Loader(dataset, order, num_workers=0 if isinstance(dataset, InMemory) else self.num_workers)

    def train_dataloader(self) -> Loader:
        plain = self.loader("train", shuffle=True, batch_size=self.train_batch_size)
        if self.augment is None:
            return plain
        dataset = Augmented(plain.dataset, self.augment, seed=self.seed)
        return Loader(dataset, plain.order, num_workers=plain.num_workers)

    def val_dataloader(self) -> Loader | list:
        return self.loader("val") if "val" in self.prepare().parts else []

    def test_dataloader(self) -> Loader | list:
        return self.loader("test") if "test" in self.prepare().parts else []
