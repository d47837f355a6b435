"""How far a few examples of a class that a network has never seen go: episodes in its features, and in its inputs.

    python scripts/few_shot.py ckpt=outputs/.../ "data.classes=[5,6,7,8,9]" ways=5 shots=1

In an episode a few classes are drawn, of each a few examples and some queries; a query is of the class whose mean is
nearest (Snell, Swersky, Zemel 2017; `zoo.losses.prototypical`). Nothing is trained. The same episodes are held in the
inputs as they are, pixel by pixel: what features are worth is what they are worth beside these.

Axes: M samples, F values, N classes of an episode, K examples of each, Q queries of each, E episodes
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zoo.checkpoint import build_model, check_targets, find, read
from zoo.data.base import PARTS
from zoo.errors import UserError
from zoo.layers.depth import entering, head
from zoo.losses.prototypical import nearness, prototypes
from zoo.trained.evaluate import build_data, prepare_torch
from zoo.trained.purpose import purpose

CHUNK = 1024  # samples


class Samples(NamedTuple):
    """All samples of some classes.

    features: (M, F) of the network.
    inputs: (M, F') as they are; None for texts, whose words are no quantities.
    labels: (M,).
    names: of the classes.
    seen: names of those classes that the network was trained on.
    """

    features: Tensor
    inputs: Tensor | None
    labels: Tensor
    names: list[str]
    seen: list[str]


def embedded(model: nn.Module, inputs: Sequence[Tensor], *, whole: bool) -> Tensor:
    """(B, F): what goes into the output layer; the output itself of a network that was trained to embed."""
    if whole:
        return model(*inputs).flatten(1).float()
    try:
        return entering(model, head(model), *inputs).flatten(1).float()
    except ValueError as error:
        raise UserError(f"{type(model).__name__} has no output layer to take features from: {error}.") from error


@torch.inference_mode()
def look(source: str, settings: Mapping[str, Any], allow: Sequence[str] = ()) -> Samples:
    """Every sample of a checkpoint's data, `settings` of which may be changed, such as its classes.

    Raises:
        UserError: see `zoo.trained.evaluate.evaluate`, and where the data has no classes.
    """
    path = find(source)
    checkpoint = read(path)
    model = build_model(checkpoint, path, allow).eval()
    if not isinstance(checkpoint.get("preprocessing"), dict):
        raise UserError(f"{path} does not say how its data was prepared; only checkpoints of train.py can be used.")
    check_targets(checkpoint["config"].get("data"), allow, "data")
    prepare_torch(checkpoint["config"])
    data = build_data(checkpoint, settings, own_labels=False)
    loaded, whole = data.prepare(), purpose(checkpoint)[0] == "vector"
    features, inputs, labels = [], [], []
    for part in (data.part(name) for name in PARTS if name in loaded.parts):
        for places in torch.arange(len(part)).split(CHUNK):  # type: ignore[arg-type]
            batch = part[places]
            if batch.targets.ndim != 1 or batch.targets.is_floating_point():
                raise UserError(f"{path} was trained on data without one class a sample; episodes are of classes.")
            features.append(embedded(model, batch.inputs, whole=whole))
            inputs.append(batch.inputs[0].flatten(1) if len(batch.inputs) == 1 else None)
            labels.append(batch.targets)
    names, known = list(loaded.class_names), list(checkpoint.get("classes") or ())
    rows = [x for x in inputs if x is not None and x.is_floating_point()]
    return Samples(
        torch.cat(features),
        torch.cat(rows) if len(rows) == len(inputs) else None,
        torch.cat(labels),
        names,
        [name for name in names if name in known],
    )


def draw_episodes(labels: Tensor, ways: int, shots: int, queries: int, episodes: int, *, seed: int = 0) -> Tensor:
    """Numbers of the samples of each episode, (E, N, K + Q): of each class first the examples, then the queries.

    Args:
        labels: (M,).

    Raises:
        UserError: there are too few classes, or samples of one.
    """
    members = [torch.nonzero(labels == k)[:, 0] for k in labels.unique()]
    fewest = min(map(len, members))
    if not 2 <= ways <= len(members):
        raise UserError(f"ways={ways} must be a number from 2 to {len(members)}, the classes that there are.")
    if shots + queries > fewest:
        raise UserError(
            f"shots={shots} and queries={queries} are more than the {fewest} samples of the smallest class."
        )
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for _ in range(episodes):
        classes = torch.randperm(len(members), generator=generator)[:ways].tolist()
        few = [torch.randperm(len(members[k]), generator=generator)[: shots + queries] for k in classes]
        drawn.append(torch.stack([members[k][places] for k, places in zip(classes, few, strict=True)]))
    return torch.stack(drawn)


def accuracies(features: Tensor, episodes: Tensor, shots: int) -> Tensor:
    """Of features (M, F) and episodes (E, N, K + Q): the share of queries of each that are told right, (E,)."""
    found = []
    for places in episodes:
        here = features[places].double()  # (N, K + Q, F)
        logits = nearness(here[:, shots:].flatten(0, 1), prototypes(here[:, :shots]))  # (N Q, N)
        right = torch.arange(len(here)).repeat_interleave(here.shape[1] - shots)  # (N Q,)
        found.append((logits.argmax(1) == right).double().mean())
    return torch.stack(found)


def with_interval(values: Tensor) -> tuple[float, float]:
    """Mean of (E,) and half of its 95 % interval, 1.96 standard errors."""
    spread = values.std().item() if len(values) > 1 else math.nan
    return values.mean().item(), 1.96 * spread / math.sqrt(len(values))
