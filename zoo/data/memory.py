"""Two problems that ask for nothing but memory: the adding problem, and copying after a long wait.

Both are made from the seed, and their answers are known: what cannot be reached without memory is a number.

Axes: N sequences, B batch, T steps, K = 10 symbols
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.batches import SequenceBatch
from zoo.data.base import PARTS, DataModule, InMemory, Loaded
from zoo.data.images import check_size, fingerprint

NUM_SYMBOLS, NUM_COPIED = 10, 10  # 0 is blank, 1 to 8 are copied, 9 says that the wait is over


def all_real(num_sequences: int, num_steps: int) -> Tensor:
    """(B, T) the mask of sequences without padding."""
    return torch.ones(num_sequences, num_steps, dtype=torch.bool)


def adding_sequences(num_sequences: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Values (N, T) float32 in [0, 1), and the two different places (N, 2) int64 of those that are to be added."""
    values = torch.rand(num_sequences, length, generator=generator)
    first = torch.randint(length, (num_sequences,), generator=generator)  # (N,)
    second = torch.randint(length - 1, (num_sequences,), generator=generator)  # (N,), one of the other places
    return values, torch.stack([first, second + (second >= first)], 1)


def adding_batch(values: Tensor, places: Tensor) -> SequenceBatch:
    """Values (B, T) and places (B, 2) -> steps of a value and a mark; the target is the sum of the marked values."""
    marks = torch.zeros_like(values).scatter_(1, places, 1.0)  # (B, T)
    total = values.gather(1, places).sum(1, keepdim=True)  # (B, 1)
    return SequenceBatch(torch.stack([values, marks], 2), all_real(*values.shape), total)


def copying_sequences(num_sequences: int, generator: torch.Generator) -> tuple[Tensor]:
    """What is to be copied, (N, 10) uint8 from 1 to 8."""
    return (torch.randint(1, NUM_SYMBOLS - 1, (num_sequences, NUM_COPIED), generator=generator, dtype=torch.uint8),)


def copying_batch(symbols: Tensor, *, wait: int) -> SequenceBatch:
    """Symbols (B, 10) -> inputs one-hot over 10 symbols, and the symbol that is right at each of wait + 20 steps.

    Inputs: the symbols, wait - 1 blanks, 11 times the mark 9. Targets: wait + 10 blanks, the symbols.
    """
    symbols = symbols.long()
    blanks = symbols.new_zeros(len(symbols), wait + NUM_COPIED)  # (B, wait + 10)
    marks = torch.full_like(blanks[:, : NUM_COPIED + 1], NUM_SYMBOLS - 1)  # (B, 11)
    seen = torch.cat([symbols, blanks[:, : wait - 1], marks], 1)  # (B, wait + 20)
    target = torch.cat([blanks, symbols], 1)  # (B, wait + 20)
    return SequenceBatch(F.one_hot(seen, NUM_SYMBOLS).float(), all_real(*seen.shape), target)


class Made(DataModule):
    """Base of what is made from the seed: subclasses say how to make sequences, and batches of them.

    Args:
        num_train, num_val, num_test: sequences of each part. Each part has random numbers of its own, so that none
            depends on the size of another.
        batch_size, eval_batch_size, seed, fraction, overfit: see `DataModule`.
    """

    number: ClassVar[int]  # tells the problems' random numbers apart

    def __init__(
        self,
        *,
        num_train: int = 50_000,
        num_val: int = 1000,
        num_test: int = 1000,
        batch_size: int | str = 50,
        eval_batch_size: int = 500,
        seed: int = 0,
        fraction: float = 1.0,
        overfit: bool = False,
    ) -> None:
        super().__init__(
            batch_size=batch_size, eval_batch_size=eval_batch_size, seed=seed, fraction=fraction, overfit=overfit
        )
        self.sizes = {"num_train": num_train, "num_val": num_val, "num_test": num_test}
        for name, size in self.sizes.items():
            check_size(name, size, 1)

    def made(self, make_batch: Callable[..., SequenceBatch]) -> dict[str, InMemory]:
        parts = {}
        for place, (part, size) in enumerate(zip(PARTS, self.sizes.values(), strict=True)):
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + 10 * self.number + place)
            parts[part] = InMemory(make_batch, *self.sequences(size, generator))
        return parts

    @abstractmethod
    def sequences(self, num_sequences: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Tensors with N rows each, of which batches are made."""


class Adding(Made):
    """The adding problem: the sum of the two values among T that bear a mark.

    Hochreiter and Schmidhuber, "Long short-term memory", 1997, experiment 4, in the form of Le, Jaitly and Hinton, "A
    simple way to initialize recurrent networks of rectified linear units", 2015 (arXiv 1504.00941), section 4.1, and of
    Bai, Kolter and Koltun, 2018 (arXiv 1803.01271): values are uniform in [0, 1), the target is the plain sum.

    Always answering 1 has a mean squared error of 1/6, the variance of the sum of two uniform values.

    Args:
        length: T, at least 2.
        num_train, num_val, num_test, batch_size, eval_batch_size, seed, fraction, overfit: see `Made`.
    """

    number = 0

    def __init__(
        self,
        *,
        length: int = 200,
        num_train: int = 50_000,
        num_val: int = 1000,
        num_test: int = 1000,
        batch_size: int | str = 50,
        eval_batch_size: int = 500,
        seed: int = 0,
        fraction: float = 1.0,
        overfit: bool = False,
    ) -> None:
        super().__init__(
            num_train=num_train,
            num_val=num_val,
            num_test=num_test,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            fraction=fraction,
            overfit=overfit,
        )
        check_size("length", length, 2)
        self.length = length

    def sequences(self, num_sequences: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        return adding_sequences(num_sequences, self.length, generator)

    def load(self) -> Loaded:
        parts = self.made(adding_batch)
        return Loaded(
            parts=dict(parts),
            facts={"kind": "regression", "input_size": 2, "num_targets": 1, "seq_len": self.length},
            preprocessing={"kind": "adding"},
            class_names=["sum"],
            notes=["Always answering 1 has a mean squared error of 1/6 = 0.1667 here."],
            fingerprint=fingerprint(tensor for part in parts.values() for tensor in part.tensors),
        )


class CopyMemory(Made):
    """Copying: ten symbols are seen, then nothing for a long while, then they are to be said.

    Hochreiter and Schmidhuber, 1997; Arjovsky, Shah and Bengio, "Unitary evolution recurrent neural networks", 2016
    (arXiv 1511.06464); sequences and loss as Bai, Kolter and Koltun, 2018 (arXiv 1803.01271), have them,
    with the symbols as one-hot vectors instead of numbers. The loss is the mean over all T = wait + 20 steps.

    Whoever knows when to speak and remembers nothing has a loss of 10 ln 8 / (wait + 20).

    Args:
        wait: steps between the last symbol and the first that is to be said, at least 1.
        num_train, num_val, num_test, batch_size, eval_batch_size, seed, fraction, overfit: see `Made`.
    """

    number = 1
    output = "symbol"

    def __init__(
        self,
        *,
        wait: int = 100,
        num_train: int = 10_000,
        num_val: int = 1000,
        num_test: int = 1000,
        batch_size: int | str = 32,
        eval_batch_size: int = 500,
        seed: int = 0,
        fraction: float = 1.0,
        overfit: bool = False,
    ) -> None:
        super().__init__(
            num_train=num_train,
            num_val=num_val,
            num_test=num_test,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            fraction=fraction,
            overfit=overfit,
        )
        check_size("wait", wait, 1)
        self.wait = wait

    @property
    def baseline(self) -> float:
        """The least loss without memory, in nats a step."""
        return NUM_COPIED * math.log(NUM_SYMBOLS - 2) / (self.wait + 2 * NUM_COPIED)

    def sequences(self, num_sequences: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        return copying_sequences(num_sequences, generator)

    def load(self) -> Loaded:
        parts = self.made(self.batch)
        return Loaded(
            parts=dict(parts),
            facts={
                "kind": "steps",
                "input_size": NUM_SYMBOLS,
                "num_classes": NUM_SYMBOLS,
                "seq_len": self.wait + 2 * NUM_COPIED,
            },
            preprocessing={"kind": "copy_memory"},
            class_names=["blank", *map(str, range(1, NUM_SYMBOLS - 1)), "mark"],
            notes=[f"Without memory the least loss is 10 ln 8 / (wait + 20) = {self.baseline:.4f} here."],
            fingerprint=fingerprint(tensor for part in parts.values() for tensor in part.tensors),
        )

    def batch(self, symbols: Tensor) -> SequenceBatch:
        return copying_batch(symbols, wait=self.wait)
