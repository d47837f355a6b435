"""Where a trained model goes wrong: which class it takes for which, and the samples on which it errs most.

How wrong an answer is: the best other class's probability (or score) less that of the true class, above 0 where the
answer is wrong; of several labels the sum of what each lacks; of quantities the sum of absolute errors in their own
units. Samples of a high value are worth a look: hard ones, and those whose label is wrong.

Axes: B samples in a chunk, K classes, labels or quantities
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.checkpoint import check_targets, find, read
from zoo.data.base import PARTS
from zoo.errors import UserError
from zoo.trained.evaluate import build_data
from zoo.trained.inputs import CHUNK
from zoo.trained.predict import Predictor, load

MOST_COLUMNS = 20  # of a table on a terminal; of more classes the most frequent confusions are listed
SHOWN = 20  # of these


class Mistake(NamedTuple):
    """A sample (`test 17`, or where it came from), how wrong the answer to it was, what was told, what is true."""

    sample: str
    wrong_by: float
    told: str
    true: str


class Found(NamedTuple):
    """Samples, the worst first, and counts (K, K), row = true, column = told; None where classes are no rivals."""

    worst: list[Mistake]
    confusion: Tensor | None
    names: list[str]


def suitable(source: str | Path, allow: Sequence[str] = (), *, confusion: bool = False) -> Predictor:
    """A model of classes or quantities. Raises UserError for one of something else, or without rivals to confuse."""
    predictor = load(source, allow)
    if predictor.preprocessing["kind"] == "series":
        raise UserError(
            "confusion= and worst= are for single samples, and this model forecasts a series; leave them out."
        )
    if confusion and predictor.kind not in ("multiclass", "binary"):
        raise UserError(
            "confusion= is for classes of which one holds, and this model was trained on others; leave it out."
        )
    return predictor


def look(
    source: str, part: str, settings: Mapping[str, Any] | None = None, allow: Sequence[str] = (), *, worst: int = 10
) -> Found:
    """What a model of classes or quantities does wrong on a part of its data, or on `all`; see `zoo.trained.evaluate`.

    Raises:
        UserError: see `suitable`.
    """
    predictor = suitable(source, allow)
    checkpoint = read(find(source))
    check_targets(checkpoint["config"].get("data"), allow, "data")
    data = build_data(checkpoint, settings or {}, part)
    parts = [name for name in PARTS if name in data.prepare().parts] if part == "all" else [part]
    size, rivals = len(predictor.names), predictor.kind in ("multiclass", "binary")
    counts, found = torch.zeros(size * size, dtype=torch.long), list[Mistake]()
    for samples, measures, targets in answers(predictor, data, parts):
        wrong_by = badness(predictor.kind, measures, targets)  # (B,)
        if rivals:
            counts += torch.bincount(targets * size + measures.argmax(1), minlength=size * size)
        order = wrong_by.argsort(descending=True, stable=True)[:worst].tolist()
        found += [
            Mistake(samples[i], float(wrong_by[i]), told(predictor, measures[i]), true(predictor, targets[i]))
            for i in order
        ]
        found = sorted(found, key=lambda mistake: -mistake.wrong_by)[:worst]
    return Found(found, counts.view(size, size) if rivals else None, predictor.names)


def answers(predictor: Predictor, data: Any, parts: Sequence[str]) -> Iterator[tuple[list[str], Tensor, Tensor]]:
    """Names of B samples, what the model says of them (B, K), and what is true: (B,), or (B, K) in own units."""
    facts, known = data.prepare().facts, data.prepare().names
    mean, spread = (torch.tensor(facts.get(f"target_{key}", default)) for key, default in (("mean", 0.0), ("std", 1.0)))
    for part in parts:
        dataset = data.part(part)
        for places in torch.arange(len(dataset)).split(CHUNK):
            batch = dataset[places]
            targets = batch.targets
            if predictor.kind == "regression":
                targets = targets * spread + mean
            elif predictor.kind == "multiclass" and targets.ndim == 2:
                targets = targets.argmax(1)
            of_part = known.get(part)
            samples = [of_part[i] if of_part else f"{part} {i}" for i in places.tolist()]
            yield samples, predictor.measures(batch.inputs), targets


def badness(kind: str, measures: Tensor, targets: Tensor) -> Tensor:
    """(B, K) and (B,) or (B, K) -> (B,); see the top of this file."""
    if kind in ("regression", "multilabel"):
        return (measures - targets).abs().sum(1)
    right = measures.gather(1, targets.long()[:, None])[:, 0]
    others = measures.scatter(1, targets.long()[:, None], -torch.inf).amax(1)
    return others - right


def told(predictor: Predictor, measures: Tensor) -> str:
    """What the model says, for people."""
    ranked = predictor.rank(measures)
    if predictor.kind == "multilabel":
        ranked = [pair for pair in ranked if pair[1] > predictor.border]
    shown = ranked if predictor.kind in ("multilabel", "regression") else ranked[:1]
    return ", ".join(predictor.words(*pair) for pair in shown) or "none"


def true(predictor: Predictor, target: Tensor) -> str:
    """The same of what is right."""
    if predictor.kind == "regression":
        return ", ".join(f"{value:.6g}" for value in target.tolist())
    if predictor.kind == "multilabel":
        return ", ".join(name for name, holds in zip(predictor.names, target.tolist(), strict=True) if holds) or "none"
    return predictor.names[int(target)]


def confusion_lines(counts: Tensor, names: Sequence[str]) -> list[str]:
    """Counts as a table, or of many classes the most frequent confusions."""
    if len(names) > MOST_COLUMNS:
        wrong = counts - counts.diag().diag()
        order = wrong.flatten().argsort(descending=True, stable=True)[:SHOWN].tolist()
        pairs = [(i // len(names), i % len(names)) for i in order]
        return [f"{names[a]} taken for {names[b]}: {int(wrong[a, b])}" for a, b in pairs if wrong[a, b]]
    width = [max(len(name), len(str(int(column.max())))) + 2 for name, column in zip(names, counts.T, strict=True)]
    first = max(len(name) for name in [*names, "true, told"])
    rows = [f"{'true, told':<{first}}" + "".join(f"{name:>{w}}" for name, w in zip(names, width, strict=True))]
    for name, row in zip(names, counts.tolist(), strict=True):
        rows.append(f"{name:<{first}}" + "".join(f"{count:>{w}}" for count, w in zip(row, width, strict=True)))
    return rows
