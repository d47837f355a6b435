"""Predicting the next token of running text, with a state that is carried from window to window.

    loss = -1/N sum_t log p(x_(t+1) | x_1 .. x_t)      in nats a token
    perplexity = e^loss                                how many tokens the model hesitates between
    bits_per_character = loss / ln 2 / characters per token

Truncated backpropagation through time (Williams and Peng, "An efficient gradient-based algorithm for on-line training
of recurrent network trajectories", 1990): the state at the end of a window is where the next window starts, and no
gradient goes back over that border. So windows change the gradient, and what is predicted stays the same.

A network that always goes on has hardly ever seen a text begin, and what it then writes after a short prompt makes no
sense. With `state_reset` some rows of a batch begin anew, from a state of 0, at random.

Every mean is over tokens, so a shorter last window counts for what it holds.

Axes: B rows, T tokens of a window, V vocabulary
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from zoo.decoding import sample, step_of
from zoo.errors import UserError
from zoo.losses.supervised import LOSSES
from zoo.noise import Noise
from zoo.tasks.base import Task
from zoo.text import PAD, UNKNOWN

LARGEST = 700.0  # nats; e to the power of more is no number
PROMPT, SAMPLE, TEMPERATURE = 64, 400, 0.8  # tokens that a shown text starts from, tokens of it, how it is drawn


def detached(state: Any, device: torch.device) -> Any:
    """Tensors, alone or nested, without their past, on the device; lists, as a checkpoint has them, become tuples."""
    if isinstance(state, Tensor):
        return state.detach().to(device)
    return tuple(detached(part, device) for part in state) if isinstance(state, (tuple, list)) else state


def begun_anew(state: Any, begins: Tensor) -> Any:
    """A recurrent state, tensors (..., B, H) alone or nested, which is 0 in the rows that begin (B,).

    Raises:
        UserError: it is no such state.
    """
    if isinstance(state, Tensor):
        if state.ndim < 2 or state.shape[-2] != len(begins):
            raise UserError("task.state_reset is for rnn, lstm and gru; leave it out for a model with another state.")
        return state.masked_fill(begins.unsqueeze(1), 0.0)
    return tuple(begun_anew(part, begins) for part in state) if isinstance(state, tuple) else state


def is_best(logits: Tensor, targets: Tensor) -> Tensor:
    """(N,) bool, whether the logit (N, V) of the target (N,) is the largest; where all are alike nothing is predicted.

    On a CPU argmax takes ten times as long. It is right for short floats all the same, of which many are equal.
    """
    if logits.device.type != "cpu" or logits.element_size() < 4:
        return logits.argmax(1) == targets
    largest = logits.amax(1)  # (N,)
    return (logits.gather(1, targets.unsqueeze(1)).squeeze(1) == largest) & (largest > logits.amin(1))


def as_code(text: str) -> str:
    """A text as markdown shows it unchanged."""
    return "\n".join(f"    {line}" for line in text.split("\n"))


class LanguageModeling(Task):
    """What comes next.

    Args:
        model: (tokens (B, T), state=...) -> (logits (B, T, V), state), or logits alone. A state is a tensor, any nested
            tuple of them, or None.
        optimizer, scheduler: see `Task`.
        carry_state: a batch that says that it `continues` the one before starts from where that one ended, in training
            as in validation and test. False: every window starts anew.
        state_reset: how often a row of a training batch begins anew instead, at random, from 0 to below 1; for
            recurrent states (..., B, H).
        seed: of that.
        num_characters: how many characters each of the V tokens stands for; None where that is not known.

    Attributes:
        carried: (rows, state) that the newest training batch leaves to the next.
    """

    batches = ("TokenBatch",)
    shows_every_epoch = True

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[..., Any],
        scheduler: Callable[..., Any] | None = None,
        *,
        carry_state: bool = True,
        state_reset: float = 0.0,
        seed: int = 0,
        num_characters: Sequence[int] | None = None,
    ) -> None:
        super().__init__(model, optimizer, scheduler)
        self.loss = LOSSES["cross_entropy"]
        if not 0 <= state_reset < 1:
            raise UserError(f"task.state_reset={state_reset} must be a number from 0 to below 1.")
        self.carry_state, self.state_reset, self.seed = carry_state, state_reset, seed
        self.before: Any = None  # what the batch at hand starts from,
        self.after: Any = None  # and what it ends with, each (rows, state)
        self.carried_in: dict[str, Any] = {}  # what the newest batch of "val" and "test" leaves
        self.characters_known = num_characters is not None
        varied = num_characters if num_characters and set(num_characters) != {1} else ()
        self.register_buffer("num_characters", torch.tensor(list(varied), dtype=torch.float32), persistent=False)

    def losses(self, batch: Any) -> dict[str, Tensor]:
        state = self.state_for(batch)
        answer = self.model(*batch.inputs) if state is None else self.model(*batch.inputs, state=state)
        logits, state = answer if isinstance(answer, tuple) else (answer, None)  # (B, T, V)
        self.after = (len(batch.targets), detached(state, logits.device))
        logits, targets = logits.flatten(0, 1), batch.targets.flatten()  # (B T, V), (B T,)
        right = is_best(logits.detach(), targets)
        at_least = torch.promote_types(logits.dtype, torch.float32)  # float64 where the run is
        losses = {"loss": self.loss.function(logits, targets), "accuracy": right.to(at_least).mean()}
        if len(self.num_characters):
            losses["characters_per_token"] = self.num_characters[targets].mean()
        return losses

    def state_for(self, batch: Any) -> Any:
        """The state that a batch goes on from; None where it begins anew."""
        if self.before is None or not self.carry_state or not getattr(batch, "continues", False):
            return None
        rows, state = self.before
        if rows != len(batch.targets):
            return None
        state = detached(state, batch.targets.device)
        return begun_anew(state, self.begins(batch.targets)) if self.training and self.state_reset else state

    def begins(self, targets: Tensor) -> Tensor:
        """(B,) bool, which rows of the training batch at hand begin anew; a pure function of where it lies."""
        attached = self._trainer is not None
        noise = self.noise(self.seed) if attached else Noise(self.seed)
        rows = self.trainer.datamodule.train_batch_size if attached else len(targets)
        like = torch.empty(len(targets), device=targets.device)
        return noise.uniform((), at=(*self.place(), "reset"), rows=rows, like=like) < self.state_reset

    @contextmanager
    def going_on_from(self, before: Any) -> Iterator[None]:
        """Within it, batches start from there; whoever else asks for losses gets those of a text that begins."""
        self.before = before
        try:
            yield
        finally:
            self.before = None

    def count_items(self, batch: Any) -> int:
        return batch.targets.numel()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        with self.going_on_from(self.carried):
            return super().training_step(batch, batch_idx)

    def count(self) -> None:
        # Not in training_step, which may be called several times a batch and must start from the same state each time.
        if not self.counted:
            self.carried = self.after if self.carry_state else None
        super().count()

    def start(self, stage: str) -> None:
        super().start(stage)
        self.carried_in[stage] = None

    def evaluate(self, stage: str, batch: Any) -> None:
        with self.going_on_from(self.carried_in.get(stage)):
            super().evaluate(stage, batch)
        self.carried_in[stage] = self.after

    def derived(self, means: dict[str, float]) -> dict[str, float]:
        if "loss" not in means:
            return {}
        loss = means["loss"]
        found = {"perplexity": math.inf if loss > LARGEST else math.exp(loss)}
        characters = means.get("characters_per_token", 1.0)
        if self.characters_known and characters > 0:
            found["bits_per_character"] = loss / math.log(2) / characters
        return found

    def show(self, batch: Any) -> dict[str, Any]:
        """A piece of the text that is judged, and how the model goes on with it; always drawn with the same noise."""
        tokenizer = getattr(self.trainer.datamodule, "tokenizer", None)
        if tokenizer is None:
            return {}
        first = batch.tokens[:1, -PROMPT:]  # (1, T)
        try:
            found = sample(
                step_of(self.model, window=batch.tokens.shape[1]),
                first,
                steps=SAMPLE,
                temperature=TEMPERATURE,
                generator=torch.Generator().manual_seed(0),
                banned=[i for i, token in enumerate(tokenizer.tokens) if token in (PAD, UNKNOWN)],
            )  # (1, N)
        except UserError as error:  # a model that diverged; what is shown must not end a run
            return {"text": str(error)}
        prompt, text = (as_code(tokenizer.decode(row)) for row in (first[0].tolist(), found[0].tolist()))
        return {"text": f"After\n\n{prompt}\n\nthe model goes on (temperature {TEMPERATURE}):\n\n{text}"}
