"""Generated samples judged from a checkpoint: what the test of a run says, and what needs a second network.

Features are those of a classifier of our own on the same images, from its last hidden layer. The Frechet distance of
two sets of them depends on that classifier and on the number of samples, so it stands beside two others computed alike:
of training images (the floor) and of noise with each pixel's mean and deviation (about the worst a generator does).

Axes: N samples, C channels, H height, W width
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.checkpoint import build_model, check_targets, find, read
from zoo.data.images import ImagePreprocessing
from zoo.errors import UserError
from zoo.metrics.generative import frechet_distance, mixture_quality, parzen, penultimate, transport_cost
from zoo.trained.evaluate import build_data, prepare_torch

CHUNK = 500
PAIRED = 2000  # points on either side of the exact transport


def samples_of(model: Any, number: int, seed: int) -> Tensor:
    """(N, *shape) on the CPU, from noise that follows from the seed."""
    generator = torch.Generator().manual_seed(seed)
    counts = [min(CHUNK, number - done) for done in range(0, number, CHUNK)]
    return torch.cat([model.sample(count, generator=generator).cpu() for count in counts])


def some(data: Any, part: str, number: int, *, shuffled: bool = False) -> Tensor:
    """At most N samples of a part as the model saw them, its first or some of all its places."""
    dataset = data.part(part)
    order = torch.arange(len(dataset))
    if shuffled:
        order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))
    return torch.cat([dataset[places].inputs[0] for places in order[:number].split(CHUNK)])


def pixels(images: Tensor, preprocessing: Mapping[str, Any]) -> Tensor:
    """Normalized images as they were before, in [0, 1]."""
    mean, std = (torch.tensor(preprocessing[key]).view(-1, 1, 1) for key in ("mean", "std"))
    return images * std + mean


def features(source: str, images: Tensor, allow: Sequence[str] = ()) -> Tensor:
    """What the classifier of a checkpoint makes of pixels in [0, 1], in its last hidden layer; (N, D).

    Raises:
        UserError: the checkpoint is missing, or is no classifier of images of this size.
    """
    path = find(source)
    checkpoint = read(path)
    found = checkpoint.get("preprocessing")
    task = (checkpoint.get("config") or {}).get("task") or {"head": "classifier"}  # where nothing is said, it is tried
    if not isinstance(found, dict) or found.get("kind") != "image" or task.get("head") != "classifier":
        raise UserError(f"{path} is no classifier of images; train one, for instance python train.py model=lenet5.")
    seen = ImagePreprocessing.from_dict(found)
    seen.check(images)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (seen.mean, seen.std))
    model = build_model(checkpoint, path, allow)
    try:
        return torch.cat([penultimate(model, (part - mean) / std) for part in images.split(CHUNK)])
    except ValueError as error:
        raise UserError(f"{path}: {error}; use one that has, for instance model=lenet5.") from error


def judge(
    source: str, *, classifier: str | None = None, number: int = 10_000, seed: int = 1, allow: Sequence[str] = ()
) -> dict[str, float]:
    """What can be said of the generator of a checkpoint.

    Args:
        source: run folder (its best, else its last) or checkpoint.
        classifier: the same of a classifier of the same images, for the Frechet distance.
        number: N, generated samples; where the data has fewer, as many as it has are compared.
        seed: of the noise.
        allow: see `zoo.checkpoint.load_model`.

    Raises:
        UserError: one line on what is missing or does not fit.
    """
    path = find(source)
    checkpoint = read(path)
    model: Any = build_model(checkpoint, path, allow)
    if not hasattr(model, "sample"):
        raise UserError(f"{path} holds {type(model).__name__}, which makes no samples; train model=gan, for instance.")
    check_targets(checkpoint["config"].get("data"), allow, "data")
    prepare_torch(checkpoint["config"])
    data = build_data(checkpoint, {})
    made = samples_of(model, number, seed)
    found: dict[str, float] = {}
    if made.ndim == 4:
        found |= of_images(made, data, checkpoint["preprocessing"], classifier, allow)
    elif classifier is not None:
        raise UserError(f"features= is for images, and {path} makes rows of a table; leave it out.")
    else:
        found |= of_points(model, made, data)
    return found


def of_images(
    made: Tensor, data: Any, preprocessing: Mapping[str, Any], classifier: str | None, allow: Sequence[str]
) -> dict[str, float]:
    """Parzen likelihood and Frechet distance, each beside what real samples get."""
    parts = data.prepare().parts
    test, train = some(data, "test", len(made)), some(data, "train", len(made), shuffled=True)
    validation = some(data, "val" if "val" in parts else "train", len(made))
    test, train, validation = (pixels(images, preprocessing) for images in (test, train, validation))
    found: dict[str, float] = {}
    for name, samples in {"parzen": made, "parzen_ceiling": train}.items():
        estimate = parzen(samples, validation, test)
        found |= {name: estimate.mean, f"{name}_error": estimate.standard_error, f"{name}_sigma": estimate.sigma}
    if classifier is not None:
        number = min(len(made), len(test), len(train))
        noise = train.mean(0) + train.std(0) * torch.randn(
            number, *train.shape[1:], generator=torch.Generator().manual_seed(0)
        )
        sets = {"frechet": made, "frechet_floor": train, "frechet_of_noise": noise.clamp(0, 1)}
        real = features(classifier, test[:number], allow)
        for name, images in sets.items():
            found[name] = frechet_distance(features(classifier, images[:number], allow), real)
    return found


@torch.no_grad()
def of_points(model: Any, made: Tensor, data: Any) -> dict[str, float]:
    """Modes and quality on a known mixture; the exact transport to real points beside a critic's value of the same."""
    found: dict[str, float] = {}
    if hasattr(data, "centers"):
        quality = mixture_quality(made.flatten(1), data.centers, data.std)
        found |= {"modes": float(quality.modes), "high_quality": quality.high_quality}
        found["smallest_mode_share"] = float(quality.counts.min() / max(1, int(quality.counts.sum())))
    real, train = some(data, "test", PAIRED), some(data, "train", PAIRED, shuffled=True)
    number = min(len(real), len(made), len(train))
    found["transport"] = transport_cost(made[:number], real[:number])
    found["transport_floor"] = transport_cost(train[:number], real[:number])
    if hasattr(model, "discriminator") and not getattr(model, "num_classes", None):  # else it asks for classes
        on_real, on_made = (model.discriminator(x).double().mean() for x in (real[:number], made[:number]))
        found["score_difference"] = float(on_real - on_made)
    return found
