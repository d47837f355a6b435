"""Text out of a network that says what comes next, one token after another: drawn, or searched for.

`sample` draws each token from what the network expects:

    p = softmax(logits / temperature), the largest k, then the nucleus, renormalized

A temperature below 1 makes likely tokens likelier, above 1 less so; at 0 the likeliest one is taken (greedy). The
nucleus is the smallest set of tokens whose probabilities reach top_p: Holtzman, Buys, Du, Forbes, Choi, "The curious
case of neural text degeneration", 2020 (arXiv 1904.09751), equation 2.

`greedy` takes the likeliest token each time, and `beam_search` looks for the likeliest text (`zoo.beam`).

The network is seen through a step, the same for a recurrent state and for a cache of keys and values:

    step(tokens (B, T), state) -> (logits (B, V) of what comes after them, state)

It is called with the whole prompt and the first state (None: nothing was read before) at first, then with what was
chosen, one token for each text. So no token is read twice, and the cost is linear in the length.

A search goes on with some texts and leaves others, so it picks rows of the state, which must be as `zoo.states` says. A
step must not write into it, but return what has changed anew.

Axes: B texts side by side, A those of them that go on, K beams of each, T tokens that are read in one call, N tokens to
be written, V vocabulary
"""

import inspect
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from zoo.beam import Beams, Search
from zoo.errors import UserError
from zoo.onednn import packed, without_onednn
from zoo.states import begun, reordered

Step = Callable[[Tensor, Any], tuple[Tensor, Any]]
COLDEST = 1e-200  # no float32, divided by it, is beyond float64


def step_of(model: nn.Module, window: int | None = None) -> Step:
    """The step of a network, which should be in evaluation mode.

    Args:
        model: (tokens (B, T), state=...) -> (logits (B, T, V), state). One that takes no state, (tokens) -> logits, is
            shown again at each step what it has read, which is no longer linear. One with a state and a `max_len`, such
            as a cache of keys and values, writes beyond it: when the next token would not fit, it starts anew from the
            newest max_len // 2 tokens. So it forgets what was before them, and a token costs the same on average.
        window: how many of its newest tokens a network without a state is shown; None for all.
    """
    forward = model.forward  # itself: a compiled call would be compiled anew for a single token
    carries = "state" in inspect.signature(forward).parameters
    is_lstm = any(isinstance(module, nn.LSTM) for module in model.modules())
    max_len: int | None = getattr(model, "max_len", None)

    def step(tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        with without_onednn() if is_lstm and tokens.shape[1] == 1 else nullcontext():
            logits, state = forward(tokens) if state is None else forward(tokens, state=state)  # (B, T, V)
        return logits[:, -1], state  # (B, V)

    def step_within(tokens: Tensor, state: Any, most: int) -> tuple[Tensor, Any]:
        seen, inner = (tokens[:, :0], None) if state is None else state
        seen = torch.cat([seen, tokens], 1)  # (B, T): what the inner state holds
        if seen.shape[1] > most:
            tokens = seen = seen[:, -max(1, most // 2) :]
            inner = None
        logits, inner = step(tokens, inner)  # (B, V)
        return logits, (seen, inner)

    def step_again(tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        seen = tokens if state is None else torch.cat([state, tokens], 1)  # (B, T)
        seen = seen[:, -(window or seen.shape[1]) :]
        answer = forward(seen)  # (B, T, V)
        return (answer[0] if isinstance(answer, tuple) else answer)[:, -1], seen  # (B, V)

    if not carries:
        return step_again
    return step if max_len is None else partial(step_within, most=max_len)


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
                raise not_finite()
            if len(never):
                logits = leave_out(logits, never)
            if now is None:
                chosen = logits.argmax(1)  # (B,)
            else:
                chosen = pick(distribution(logits, temperature=temperature, top_k=top_k, top_p=top_p), now)  # (B,)
            tokens = chosen.unsqueeze(1).to(first.device)  # (B, 1)
            found.append(tokens)
    return torch.cat(found, 1)  # (B, N)


def limits_of(steps: int | Tensor, first: Tensor) -> Tensor:
    """(B,) int64, the most tokens of each text. Raises UserError where that is none."""
    limits = torch.as_tensor(steps, device=first.device).expand(len(first))
    least = int(limits.min())
    if least < 1:
        raise UserError(f"A text of {least} tokens cannot be written; give at least 1.")
    return limits


def not_finite() -> UserError:
    return UserError("The model gives no finite number for what comes next; did its training go wrong?")


def greedy(
    step: Step, first: Tensor, state: Any = None, *, steps: int | Tensor, eos: int, banned: Sequence[int] = ()
) -> Tensor:
    """The likeliest token again and again: (B, N) tokens, int64, 0 after `eos`; N is that of the longest text.

    A text that has ended is not read on, and none depends on those beside it.

    Args:
        step, first, state: see above; first is (B, T), B and T > 0.
        steps: the most tokens of a text, or (B,) those of each.
        eos: the token that ends a text.
        banned: tokens that never come.

    Raises:
        UserError: a setting means nothing, or a logit is no finite number.
    """
    limits, tokens = limits_of(steps, first), first
    rows, never = torch.arange(len(first), device=first.device), torch.tensor(list(banned), device=first.device).long()
    found = first.new_zeros(len(first), int(limits.max()))  # (B, N)
    with torch.inference_mode():
        for n in range(found.shape[1]):
            logits, state = step(tokens, state)  # (A, V)
            values, chosen = (leave_out(logits, never) if len(never) else logits).max(1)  # (A,) each
            if not values.isfinite().all():
                raise not_finite()
            found[rows, n] = chosen
            kept = ((chosen != eos) & (limits[rows] > n + 1)).nonzero().squeeze(1)  # of the A, those that go on
            if len(kept) == 0:
                return found[:, : n + 1]
            if len(kept) < len(rows):
                rows, chosen, state = rows[kept], chosen[kept], reordered(state, kept)
            tokens = chosen.unsqueeze(1)  # (A, 1)
    return found


def beam_search(
    step: Step,
    first: Tensor,
    state: Any = None,
    *,
    beams: int,
    steps: int | Tensor,
    eos: int,
    length_penalty: float = 0.0,
    banned: Sequence[int] = (),
) -> Beams:
    """The best texts that K open beams lead to.

    At each step, of the best 2 K continuations of the open beams, those among the first K that end are kept with their
    score, and the best K of the others stay open. A text is done when no open beam can still become the best; or when K
    have ended and no open one is better so far; or at its limit. The second is a rule of thumb where a length penalty
    rewards the longer text: an open one, not better so far, might still have become so. One beam is `greedy`, and as
    many as there are texts find the best. Those that had not ended when their search did come last.

    Args:
        step, first, state, steps, eos: see `greedy`. The prompt is read once, not K times.
        beams: K.
        length_penalty: alpha, from 0 on.
        banned: tokens that never come; the model's own probabilities of the others stay as they are.

    Raises:
        UserError: a setting means nothing, or a logit is no finite number.
    """
    if beams < 1:
        raise UserError(f"beams={beams} must be a whole number from 1 on; 1 is greedy.")
    if not 0 <= length_penalty < math.inf:
        raise UserError(f"length_penalty={length_penalty} must be a number from 0 on.")
    limits, finished = limits_of(steps, first), list[tuple[Tensor, Beams]]()
    never = torch.tensor(list(banned), device=first.device).long()
    with torch.inference_mode():
        logits, after = step(first, state)  # (B, V)
        dtype = torch.promote_types(logits.dtype, torch.float32)
        search = Search.begin(first, limits, beams, length_penalty, dtype)
        while True:
            count, opened = search.sums.shape
            parents = search.advance(logits.unflatten(0, (count, opened)), eos, never)  # (A, K)
            if search.sums.isnan().any():
                raise not_finite()
            done = search.done()
            kept = (~done).nonzero().squeeze(1)  # of the A, those that go on
            if len(kept) < count:
                finished.append(search.leave(done, kept))
            if len(kept) == 0:
                break
            rows = (kept.unsqueeze(1) * opened + parents[kept]).flatten()  # (A K,) of A J
            # While no text leaves, rows change places with beams of the same text, which share what no step changes.
            state = reordered(after, rows, state if opened == beams and len(kept) == count else None, kept)
            logits, after = step(search.written[:, :, -1].reshape(-1, 1), state)  # (A K, V)
    order = torch.cat([rows for rows, _ in finished]).argsort()  # (B,)
    tokens, scores = (torch.cat(parts)[order] for parts in zip(*(found for _, found in finished), strict=True))
    return Beams(tokens[:, :, : search.written.shape[2]], scores)


def answers(
    model: Any,
    src: Tensor,
    src_mask: Tensor | None,
    *,
    bos: int,
    eos: int,
    banned: Sequence[int] = (),
    beams: int = 1,
    length_penalty: float = 0.0,
    max_steps: int = 50,
    steps: Tensor | None = None,
) -> list[list[int]]:
    """What a model of sequences writes of each source: its tokens, up to `eos` where it comes to that.

    A text gets room for twice the tokens of its source and ten more, an image for `max_steps`, and none for more than
    the model's `max_len`. So an answer does not depend on the sources beside it.

    Args:
        model: encode(src, src_mask) -> memory, start(memory, src_mask) -> state, and a `step`; in evaluation mode.
        src: tokens (B, S), or images (B, C, H, W).
        src_mask: (B, S) bool, True where a token is real; None for images.
        bos: what is read before the first token.
        eos, banned, beams, length_penalty: see `beam_search`.
        steps: (B,) int64, the room of each in place of that.
    """
    if steps is None:
        whole = torch.full((len(src),), max_steps, device=src.device)  # (B,)
        steps = whole if src_mask is None else 2 * src_mask.sum(1) + 10
    room = steps.clamp(max=getattr(model, "max_len", None) or int(steps.max()))
    first = torch.full((len(src), 1), bos, device=src.device)  # (B, 1)
    options: dict[str, Any] = {"steps": room, "eos": eos, "banned": banned}
    with torch.no_grad(), packed(model):
        state = begun(model, src, src_mask)
        if beams == 1:
            rows = greedy(model.step, first, state, **options).tolist()
        else:
            options |= {"beams": beams, "length_penalty": length_penalty}
            rows = beam_search(model.step, first, state, **options).tokens[:, 0].tolist()
    ends = [row.index(eos) + 1 if eos in row else int(most) for row, most in zip(rows, room.tolist(), strict=True)]
    return [row[:end] for row, end in zip(rows, ends, strict=True)]


def looked_at(model: Any, src: Tensor, src_mask: Tensor | None, row: Sequence[int], *, bos: int) -> dict[str, Tensor]:
    """{name of a layer: (H, T, S)}, what a model looks at in one source while it writes the T tokens of a row.

    Args:
        model, src, src_mask, bos: see `answers`; of one source. A model without `attention` gives {}.
    """
    if not row or not hasattr(model, "attention"):
        return {}
    read = torch.tensor([[bos, *row[:-1]]], device=src.device)  # (1, T)
    return {name: weights[0] for name, weights in model.attention(src, src_mask, read).items()}
