"""Text out of a network that says what comes next: one token after another, each drawn from what the network expects.

    p = softmax(logits / temperature), the largest k, then the nucleus, renormalized

A temperature below 1 makes likely tokens likelier, above 1 less so; at 0 the likeliest one is taken (greedy). The
nucleus is the smallest set of tokens whose probabilities reach top_p: Holtzman, Buys, Du, Forbes, Choi, "The curious
case of neural text degeneration", 2020 (arXiv 1904.09751), equation 2.

The network is seen through a step, the same for a recurrent state and for a cache of keys and values:

    step(tokens (B, T), state) -> (logits (B, V) of what comes after them, state)

It is called with the whole prompt and no state at first, then with what was drawn, one token for each text. So no token
is read twice, and the cost is linear in the length.

Axes: B texts side by side, T tokens that are read in one call, N tokens to be written, V vocabulary
"""

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import UserError

Step = Callable[[Tensor, Any], tuple[Tensor, Any]]
COLDEST = 1e-200  # no float32, divided by it, is beyond float64


def step_of(model: nn.Module, window: int | None = None) -> Step:
    """The step of a network, which should be in evaluation mode.

    Args:
        model: (tokens (B, T), state=...) -> (logits (B, T, V), state). One that takes no state, (tokens) -> logits, is
            shown again at each step what it has read, which is no longer linear.
        window: how many of its newest tokens such a network is shown; None for all.
    """
    forward = model.forward  # itself: a compiled call would be compiled anew for a single token
    carries = "state" in inspect.signature(forward).parameters
    is_lstm = any(isinstance(module, nn.LSTM) for module in model.modules())

    def step(tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        with without_onednn() if is_lstm and tokens.shape[1] == 1 else nullcontext():
            logits, state = forward(tokens) if state is None else forward(tokens, state=state)  # (B, T, V)
        return logits[:, -1], state  # (B, V)

    def step_again(tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        seen = tokens if state is None else torch.cat([state, tokens], 1)  # (B, T)
        seen = seen[:, -(window or seen.shape[1]) :]
        answer = forward(seen)  # (B, T, V)
        return (answer[0] if isinstance(answer, tuple) else answer)[:, -1], seen  # (B, V)

    return step if carries else step_again


@contextmanager
def without_onednn() -> Iterator[None]:
    """On a CPU, oneDNN packs an LSTM's weights anew in each call, ten times as long as one step takes without it."""
    backend: Any = torch.backends.mkldnn
    before = backend.enabled
    backend.enabled = False
    try:
        yield
    finally:
        backend.enabled = before


def leave_out(logits: Tensor, tokens: Tensor) -> Tensor:
    """(B, V) -> (B, V), in which the tokens of a list, int64, cannot come."""
    return logits.index_fill(1, tokens, -torch.inf)


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """(B, V) -> (B, V): the k largest as they are, -inf for all others."""
    best = logits.topk(min(k, logits.shape[1]), dim=1).indices  # (B, k)
    return torch.full_like(logits, -torch.inf).scatter(1, best, logits.gather(1, best))


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """(B, V) -> (B, V): the smallest set whose probabilities add up to p at least as it is, -inf for all others."""
    if p >= 1:
        return logits
    ordered, order = logits.sort(dim=1, descending=True, stable=True)  # (B, V) each
    shares = ordered.softmax(1)
    before = shares.cumsum(1) - shares  # what the larger ones add up to
    keep = torch.zeros_like(before, dtype=torch.bool).scatter(1, order, before < p)
    return logits.masked_fill(~keep, -torch.inf)


def distribution(
    logits: Tensor, *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """(B, V) -> probabilities (B, V) in float64; see `sample`."""
    if temperature == 0:
        return nn.functional.one_hot(logits.argmax(1), logits.shape[1]).double()
    logits = logits.double() / max(temperature, COLDEST)
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p is not None:
        logits = keep_top_p(logits, top_p)
    return logits.softmax(1)


def pick(probabilities: Tensor, noise: Tensor) -> Tensor:
    """Tokens (B,) of probabilities (B, V), which need not add up to 1, by noise (B,) of `noise_for`."""
    sums = probabilities.cumsum(1)  # (B, V)
    # The first sum above the place is that of a token whose probability is not 0, and there always is one.
    places = noise.unsqueeze(1) * sums[:, -1:]  # (B, 1), below the whole sum
    return torch.searchsorted(sums, places, right=True).squeeze(1)  # (B,)


def noise_for(num_texts: int, steps: int, generator: torch.Generator | None) -> Tensor:
    """(B, N) uniform in [0, 1), float64. Each text has its own, the same whatever the number of texts, and of steps.

    It is drawn in float32, so it is below 1 by so much that its product with a sum in float64 is below that sum.
    """
    seeds = torch.randint(2**62, (num_texts,), generator=generator).tolist()
    return torch.stack([torch.rand(steps, generator=torch.Generator().manual_seed(seed)) for seed in seeds]).double()


def check_sampling(steps: int, temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raises UserError for settings of `sample` that mean nothing."""
    if steps < 1:
        raise UserError(f"A text of {steps} tokens cannot be written; give at least 1.")
    if not 0 <= temperature < math.inf:
        raise UserError(f"The temperature {temperature} must be a number from 0 on.")
    if top_k is not None and top_k < 1:
        raise UserError(f"top_k={top_k} must be a whole number from 1 on, or be left out.")
    if top_p is not None and not 0 < top_p <= 1:
        raise UserError(f"top_p={top_p} must be above 0 and at most 1, or be left out.")


def sample(
    step: Step,
    first: Tensor,
    state: Any = None,
    *,
    steps: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
    banned: Sequence[int] = (),
) -> Tensor:
    """Goes on with B texts: (B, N) tokens, int64, on the device of `first`.

    The choice is made on the CPU in float64, the same for every device. A text does not depend on those beside it, and
    a longer one begins with the shorter one of the same seed.

    Args:
        step: see above.
        first: (B, T) tokens to start from, T > 0; they are read in one call.
        state: what was read before them; None for nothing.
        steps: N.
        temperature: from 0 (greedy) on.
        top_k: only the k likeliest tokens may come; None for all.
        top_p: only those of the nucleus may come, in (0, 1]; None for all. It is taken after top_k.
        generator: of the CPU; None is torch's global one.
        banned: tokens that never come.

    Raises:
        UserError: a setting means nothing, or a logit is no finite number.
    """
    check_sampling(steps, temperature, top_k, top_p)
    noise = [None] * steps if temperature == 0 else noise_for(len(first), steps, generator).unbind(1)  # (B,) a step
    found, tokens, never = [], first, torch.tensor(list(banned), dtype=torch.long)
    with torch.inference_mode():
        for now in noise:
            logits, state = step(tokens, state)  # (B, V)
            logits = logits.cpu().double()  # a sum of short floats could be beyond their range
            if not math.isfinite(float(logits.sum())):
                raise UserError("The model gives no finite number for what comes next; did its training go wrong?")
            if len(never):
                logits = leave_out(logits, never)
            if now is None:
                chosen = logits.argmax(1)  # (B,)
            else:
                chosen = pick(distribution(logits, temperature=temperature, top_k=top_k, top_p=top_p), now)  # (B,)
            tokens = chosen.unsqueeze(1).to(first.device)  # (B, 1)
            found.append(tokens)
    return torch.cat(found, 1)  # (B, N)
