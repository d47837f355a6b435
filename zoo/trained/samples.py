"""New samples from a trained generator (VAE, GAN, Boltzmann machine): images or rows, saved as a picture or as numbers.

    sampler = load("outputs/.../")
    images = sampler.draw(64, seed=0)          (64, C, H, W) in [0, 1]
    save("samples.png", images)

Beside draws: the way between two of them, and sums and differences of their latent vectors (Radford, Metz, Chintala
2016, arXiv 1511.06434, section 6.3.2), where a draw is named by its number, from 1 on, in the picture of the same seed.

Axes: N samples, Z latent, C channels, H height, W width, F values of a row, K classes
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.checkpoint import build_model, find, read
from zoo.errors import UserError
from zoo.pictures.generated import mosaic

MOST, ROW, CHUNK = 100_000, 8, 500  # samples of one call, images in a row, samples made at a time
TERM = re.compile(r"\s*([+-]?)\s*\[([\d\s,]+)\]")


@dataclass
class Sampler:
    """A trained generator with what is needed to use it.

    Args:
        model: has `sample`, in evaluation mode; see `zoo.models.vae.VAE`.
        num_classes: K of a conditional one, or None.
    """

    model: nn.Module
    num_classes: int | None = None

    def labels(self, label: int | None, n: int) -> Tensor | None:
        """(n,) of one class, or None for all. Raises UserError for a class that is not there, or a model without."""
        if label is None:
            return None
        if not self.num_classes:
            can = (
                "train with 'model.num_classes=${data.num_classes}'"
                if hasattr(self.model, "num_classes")
                else "use cvae"
            )
            raise UserError(
                f"label={label} asks for one class, and this {type(self.model).__name__} has learnt without labels; "
                f"leave it out, or {can}."
            )
        if not 0 <= label < self.num_classes:
            raise UserError(f"label={label} is none of the {self.num_classes} classes, which are counted from 0 on.")
        return torch.full((n,), label)

    @torch.no_grad()
    def draw(self, n: int, *, seed: int = 0, label: int | None = None) -> Tensor:
        """(n, *shape): images in [0, 1], or rows in the units of training.

        Where there are latent vectors, a larger n begins with the same samples.
        """
        model: Any = self.model
        if hasattr(model, "latent"):
            drawn = self.decoded(self.latent(n, seed), label)
            if not hasattr(model, "observed"):
                return drawn
            generator = torch.Generator().manual_seed((seed + 0x9E3779B9) % 2**32)  # not that of the latent vectors
            return torch.cat([model.observed(x, generator=generator) for x in drawn.split(1)])
        return model.sample(n, generator=torch.Generator().manual_seed(seed), label=self.labels(label, n))

    def latent(self, n: int, seed: int) -> Tensor:
        """The vectors that `draw` decodes, (n, Z)."""
        model: Any = self.model
        if not hasattr(model, "latent"):
            raise UserError(
                f"{type(model).__name__} draws step by step from what it drew before and has no latent vectors to "
                "walk between or to add."
            )
        one_by_one = torch.Generator().manual_seed(seed)  # so that a larger number begins with the same ones
        return torch.cat([model.latent(1, generator=one_by_one) for _ in range(n)])

    @torch.no_grad()
    def decoded(self, z: Tensor, label: int | None = None) -> Tensor:
        """(N, Z) -> (N, *shape); without a label a conditional model takes its classes in turn."""
        model: Any = self.model
        turns = torch.arange(len(z)) % self.num_classes if self.num_classes else None
        labels = self.labels(label, len(z)) if label is not None else turns
        parts = torch.arange(len(z)).split(CHUNK)
        return torch.cat([model.from_latent(z[some], None if labels is None else labels[some]) for some in parts])

    def walk(self, n: int, steps: int, *, seed: int = 0, label: int | None = None) -> Tensor:
        """From each of n draws to the next one, back to the first at the end: (n * steps, *shape), `steps` to a row."""
        z = self.latent(n, seed)  # (n, Z)
        share = torch.linspace(0, 1, steps)[:, None]  # (steps, 1)
        way = torch.cat([spherical(a, b, share) for a, b in zip(z, z.roll(-1, 0), strict=True)])  # (n * steps, Z)
        if label is None and self.num_classes:  # a row is of one class
            rows = way.view(n, steps, -1)
            return torch.cat([self.decoded(row, i % self.num_classes) for i, row in enumerate(rows)])
        return self.decoded(way, label)

    def arithmetic(self, formula: str, *, seed: int = 0, label: int | None = None) -> Tensor:
        """The mean of each term's draws, then what the formula makes of them: (terms + 1, *shape).

        Args:
            formula: such as "[1,4,9]-[2,3]+[7]", numbers of draws.

        Raises:
            UserError: it is no such formula.
        """
        terms = parsed(formula)
        z = self.latent(max(number for _, numbers in terms for number in numbers), seed)  # (N, Z)
        means = torch.stack([z[torch.tensor(numbers) - 1].mean(0) for _, numbers in terms])  # (terms, Z)
        signs = torch.tensor([float(sign) for sign, _ in terms])
        shown = torch.cat([means, (signs @ means)[None]])  # (terms + 1, Z)
        return self.decoded(shown, 0 if label is None and self.num_classes else label)


def spherical(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Points between two vectors (Z,) along the arc, whose length changes evenly; share (S, 1) -> (S, Z).

    On a straight line between two draws of a wide Gaussian the points in the middle are shorter than any draw is.
    """
    angle = torch.arccos((a @ b / (a.norm() * b.norm()).clamp(min=1e-12)).clamp(-1, 1))
    if angle < 1e-4 or torch.pi - angle < 1e-4:
        return (1 - share) * a + share * b
    return (((1 - share) * angle).sin() * a + (share * angle).sin() * b) / angle.sin()


def parsed(formula: str) -> list[tuple[int, list[int]]]:
    """(sign, numbers) of each term. Raises UserError for what is no formula of draws."""
    found: list[tuple[int, list[int]]] = []
    place = 0
    while match := TERM.match(formula, place):
        numbers = [int(part) for part in match[2].replace(",", " ").split()]
        if not numbers or (found and not match[1]) or not all(1 <= number <= MOST for number in numbers):
            break
        found.append((-1 if match[1] == "-" else 1, numbers))
        place = match.end()
    if not found or formula[place:].strip():
        raise UserError(
            f"arithmetic={formula} must be numbers of draws in brackets, added and taken away, for instance "
            '"[1,4,9]-[2,3]+[7]".'
        )
    return found


def chosen_samples(sampler: Sampler, n: int, *, walk: int | None, arithmetic: str | None, **where: Any) -> Tensor:
    """Draws, or the ways between them, or what a formula makes of them; `where` is seed and label."""
    if arithmetic:
        return sampler.arithmetic(arithmetic, **where)
    return sampler.walk(n, walk, **where) if walk else sampler.draw(n, **where)


def load(source: str | Path, allow: Sequence[str] = ()) -> Sampler:
    """The generator of a checkpoint; arguments as in `zoo.checkpoint.load_model`."""
    path = find(source)
    return sampler_of(read(path), path, allow)


def sampler_of(checkpoint: dict[str, Any], path: Path, allow: Sequence[str] = ()) -> Sampler:
    model: Any = build_model(checkpoint, path, allow)
    if not hasattr(model, "sample"):
        raise UserError(f"{path} holds {type(model).__name__}, which makes no samples; use model=vae, gan or rbm.")
    return Sampler(model, getattr(model, "num_classes", None))


def save(out: str | Path, samples: Tensor, *, columns: int = ROW) -> None:
    """Writes samples (N, *shape): images to .png, rows to .csv, either to .npz (under "samples").

    Raises:
        UserError: the file's ending does not fit, or it cannot be written.
    """
    path, is_image = Path(out).expanduser(), samples.ndim == 4
    endings = [".png", ".npz"] if is_image else [".csv", ".npz"]
    if path.suffix.lower() not in endings:
        raise UserError(f"out={out} must end in {' or '.join(endings)}: these are {'images' if is_image else 'rows'}.")
    try:
        if path.suffix.lower() == ".npz":
            import numpy as np

            np.savez_compressed(path, samples=samples.cpu().numpy())
        elif is_image:
            from PIL import Image

            picture = (255 * mosaic(samples, columns)).round().byte().permute(1, 2, 0)  # (height, width, 3)
            Image.fromarray(picture.numpy()).save(path)
        else:
            lines = (",".join(f"{value:.6g}" for value in row) for row in samples.flatten(1).tolist())
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}.") from error
