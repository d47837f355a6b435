"""Variational inference: an encoder and a decoder are trained together on a bound of the likelihood (nats).

    loss = -1/B sum_x ELBO(x)  or  -1/B sum_x IWAE(x)        (zoo.losses.variational)

What is watched: `reconstruction` is -E log p(x|z), `kl` the divergence of the code from its prior, `negative_elbo` the
sum of both, `active_units` how many latent variables the data moves at all (Burda, Grosse, Salakhutdinov 2016, section
5.2). In validation and test the loss is the bound with the whole weight `beta`, without warm-up and free bits, so that
it can be compared from epoch to epoch. `nll_iwae`, of the test, is the importance-weighted estimate of -log p(x): an
upper bound, which falls with the number of samples.

Grey levels count as probabilities (`zoo.losses.variational`). Numbers that are published as likelihoods are of binary
pixels, mostly drawn anew each time an image is read (`binarize: stochastic`); the two cannot be compared.

Noise and pixels are pure functions of seed, epoch and batch; those of validation and test are the same each time.

Axes: B batch, K samples of z, Z latent variables
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import UserError, suggest
from zoo.losses.variational import (
    active_units,
    bernoulli_log_likelihood,
    free_bits,
    gaussian_log_likelihood,
    importance_weighted_bound,
    kl_to_standard_normal,
    log_weights,
    reparameterize,
    warmed_up,
)
from zoo.noise import Noise, generator_at
from zoo.pictures.latent import between, code_map, pairs, plane, table_columns, tiles, walks
from zoo.tasks.base import Task

BOUNDS = ("elbo", "iwae")
BINARIZE = ("none", "stochastic", "threshold")
METHODS = ("encode", "decode", "from_latent", "latent", "sample")
AT_ONCE = 8192  # codes that are decoded at once for `nll_iwae`: as many as stay near the processor
ACROSS, WALKED, MANIFOLD = 10, 8, 20  # pictures in a row; variables of a walk; rows of a 2-D map
TINY = 1e-4  # by which a pixel may miss [0, 1]


class Variational(Task):
    """An encoder and a decoder.

    Args:
        model: has encode, decode, from_latent, latent, sample, and the attributes likelihood, latent_size, shape,
            is_image and num_classes; see `zoo.models.vae`.
        optimizer, scheduler: see `Task`.
        seed: of all that is drawn.
        bound: "elbo" or "iwae".
        samples: K, codes drawn of each sample.
        beta: weight of the KL.
        kl_warmup_epochs: over how many epochs that weight grows from 0.
        free_bits: nats of each latent variable that cost nothing.
        eval_samples: codes of each test sample from which -log p(x) is estimated; 0: it is not.
        binarize: "none"; "stochastic": a pixel is 1 with its own value as probability, drawn anew each time; or
            "threshold": where it is above 1/2.
        class_names: names of the classes, for pictures.
    """

    batches = ("ImageBatch", "TableBatch")
    shows_every_epoch = True

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[..., Any],
        scheduler: Callable[..., Any] | None = None,
        *,
        seed: int = 0,
        bound: str = "elbo",
        samples: int = 1,
        beta: float = 1.0,
        kl_warmup_epochs: float = 0.0,
        free_bits: float = 0.0,
        eval_samples: int = 0,
        binarize: str = "none",
        class_names: Any = (),
    ) -> None:
        super().__init__(model, optimizer, scheduler)
        for name, word, known in (("bound", bound, BOUNDS), ("binarize", binarize, BINARIZE)):
            if word not in known:
                raise UserError(f"There is no task.{name}={word}{suggest(word, known)}")
        least = {"samples": (samples, 1), "eval_samples": (eval_samples, 0), "beta": (beta, 0)}
        least |= {"kl_warmup_epochs": (kl_warmup_epochs, 0), "free_bits": (free_bits, 0)}
        for name, (value, bottom) in least.items():
            if value < bottom:
                raise UserError(f"task.{name}={value} must be a number from {bottom} on.")
        of_the_kl = {"beta": beta != 1, "kl_warmup_epochs": kl_warmup_epochs > 0, "free_bits": free_bits > 0}
        wrong = [f"task.{name}" for name, is_set in of_the_kl.items() if is_set and bound == "iwae"]
        if wrong:
            raise UserError(f"task.bound=iwae has no KL to weigh; leave out {' and '.join(wrong)}, or use bound=elbo.")
        self.seed, self.bound, self.samples, self.binarize = seed, bound, samples, binarize
        self.beta, self.kl_warmup_epochs, self.free_bits = beta, kl_warmup_epochs, free_bits
        self.eval_samples, self.class_names = eval_samples, list(class_names)
        self.moments: dict[str, Tensor] = {}  # {stage: (3, Z): sums of 1, mean and mean^2 over the samples}

    def check(self, batch: Any) -> None:
        super().check(batch)
        name = type(self.model).__name__
        missing = [method for method in METHODS if not hasattr(self.model, method)]
        if missing:
            raise UserError(f"{name} has no {' and no '.join(missing)}, which task=variational needs; use model=vae.")
        self.check_range(batch.inputs[0])
        targets = batch.targets
        if self.model.num_classes and not (targets.ndim == 2 or not targets.is_floating_point()):
            raise UserError(f"A conditional {name} needs classes, and this data has none; use model=vae.")

    def check_range(self, x: Tensor) -> None:
        """Raises UserError where x must lie in [0, 1] and does not."""
        of_images, likelihood = bool(self.model.is_image), self.model.likelihood
        if not (of_images or likelihood == "bernoulli" or self.binarize != "none") or x.numel() == 0:
            return
        if x.min() < -TINY or x.max() > 1 + TINY:
            advice = "data.normalize=false" if of_images else "model.likelihood=gaussian and task.binarize=none"
            raise UserError(f"Values must lie in [0, 1], and go from {x.min():.2g} to {x.max():.2g}; use {advice}.")

    # ---- what is drawn

    @property
    def is_running(self) -> bool:
        """Whether a trainer drives this task; a test or a notebook may call `losses` by itself."""
        return getattr(self, "_trainer", None) is not None

    def draw(self, kind: str, shape: tuple[int, ...], name: str, like: Tensor) -> Tensor:
        """(B, *shape), "normal" or "uniform", of the batch at hand; `name` tells its draws apart."""
        noise, rows = Noise(self.seed), len(like)
        if self.is_running:
            data: Any = self.trainer.datamodule
            rows = data.train_batch_size if self.batch_at_hand[0] == "train" else data.eval_batch_size
            noise = self.noise(self.seed)
        return getattr(noise, kind)(shape, at=(*self.place(), name), rows=rows, like=like)

    def observed(self, batch: Any) -> Tensor:
        """The batch's input as the model is to explain it, in its shape."""
        x: Tensor = batch.inputs[0]
        if self.binarize == "threshold":
            return (x > 0.5).to(x.dtype)
        if self.binarize == "stochastic":
            return (self.draw("uniform", tuple(x.shape[1:]), "pixels", x) < x).to(x.dtype)
        return x

    def label(self, batch: Any) -> Tensor | None:
        return batch.targets if self.model.num_classes else None

    # ---- the bounds

    def log_likelihood(self, x: Tensor, z: Tensor, label: Tensor | None) -> Tensor:
        """log p(x|z) of samples (B, ...) and codes (B, K, Z): (B, K)."""
        model: Any = self.model
        decoded = model.decode(z, label)  # (B, K, *shape)
        if model.likelihood == "bernoulli":
            return bernoulli_log_likelihood(decoded, x)
        return gaussian_log_likelihood(decoded, x, model.output_log_var)

    def losses(self, batch: Any) -> dict[str, Tensor]:
        return self.bounds(self.observed(batch), self.label(batch))[0]

    def bounds(self, x: Tensor, label: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
        """The losses of a batch, and the means (B, Z) of its codes."""
        model: Any = self.model
        mean, log_var = model.encode(x, label)  # (B, Z) each
        noise = self.draw("normal", (self.samples, mean.shape[1]), "codes", mean)  # (B, K, Z)
        z = reparameterize(mean, log_var, noise)  # (B, K, Z)
        likelihood = self.log_likelihood(x, z, label)  # (B, K)
        kl = kl_to_standard_normal(mean, log_var)  # (B, Z)
        reconstruction, divergence = -likelihood.mean(), kl.sum(1).mean()
        watched = {"reconstruction": reconstruction.detach(), "kl": divergence.detach()}
        if self.bound == "iwae":
            loss = -importance_weighted_bound(log_weights(likelihood, z, noise, log_var)).mean()
        elif self.training:
            weight = self.beta * warmed_up(self.epochs_done(), self.kl_warmup_epochs)
            loss = reconstruction + weight * (self.with_free_bits(kl) if self.free_bits else divergence)
            if self.kl_warmup_epochs:
                watched["kl_weight"] = loss.new_tensor(weight)
        else:
            loss = reconstruction + self.beta * divergence
        return {"loss": loss} | watched, mean

    def epochs_done(self) -> float:
        """Epochs of training before the batch at hand, a part of one included."""
        batches = self.trainer.num_training_batches if self.is_running else 1
        return self.current_epoch + self.batch_at_hand[1] / batches

    def with_free_bits(self, kl: Tensor) -> Tensor:
        """The KL (B, Z) of this process's samples where that of the global batch is above what is free, ()."""
        totals = torch.cat([kl.detach().sum(0), kl.new_tensor([len(kl)])]).double()  # (Z + 1,)
        if self.is_running and self.trainer.world_size > 1:
            self.add_up(totals)
        return free_bits(kl, totals[:-1] / totals[-1], self.free_bits)

    def derived(self, means: dict[str, float]) -> dict[str, float]:
        return {"negative_elbo": means["reconstruction"] + means["kl"]} if "kl" in means else {}

    # ---- validation and test

    def start(self, stage: str) -> None:
        super().start(stage)
        self.moments.pop(stage, None)

    def evaluate(self, stage: str, batch: Any) -> None:
        self.check_range(batch.inputs[0])
        x, label = self.observed(batch), self.label(batch)
        losses, mean = self.bounds(x, label)
        if stage == "test" and self.eval_samples:
            losses["nll_iwae"] = -self.estimate(x, label).mean()
        self.means[stage].add(losses, len(x))
        mean = mean.double()
        moments = torch.stack([torch.ones_like(mean), mean, mean**2]).sum(1).cpu()  # (3, Z)
        self.moments[stage] = self.moments.get(stage, torch.zeros_like(moments)) + moments

    def estimate(self, x: Tensor, label: Tensor | None) -> Tensor:
        """The importance-weighted bound of `eval_samples` codes, (B,)."""
        model: Any = self.model
        mean, log_var = model.encode(x, label)  # (B, Z) each
        rows = self.trainer.datamodule.eval_batch_size if self.is_running else len(x)
        chunk, total = max(1, AT_ONCE // rows), torch.full_like(mean[:, 0], -math.inf, dtype=torch.float64)
        for first in range(0, self.eval_samples, chunk):
            number = min(chunk, self.eval_samples - first)
            noise = self.draw("normal", (number, mean.shape[1]), f"weights {first}", mean)  # (B, k, Z)
            z = reparameterize(mean, log_var, noise)  # (B, k, Z)
            weights = log_weights(self.log_likelihood(x, z, label), z, noise, log_var)  # (B, k)
            total = torch.logaddexp(total, weights.double().logsumexp(1))
        return total - math.log(self.eval_samples)

    def whole_set_metrics(self, stage: str) -> dict[str, float]:
        """How many latent variables the whole part moves; every process must call it."""
        parts: list[Any] = [self.moments.get(stage)]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            parts = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(parts, self.moments.get(stage))
        found = [part for part in parts if part is not None]
        if not found:
            return {}
        number, first, second = torch.stack(found).sum(0)  # (Z,) each
        return {"active_units": float(active_units(second / number, first / number).sum())}

    # ---- what is worth seeing

    @torch.no_grad()
    def show(self, batch: Any) -> dict[str, Any]:
        """Samples, reconstructions and the space of codes, always from the same noise."""
        model: Any = self.model
        x, label = batch.inputs[0], self.label(batch)
        if self.binarize != "none":
            drawn = torch.rand(x.shape, generator=generator_at(self.seed, "shown")).to(x)
            x = (x > (0.5 if self.binarize == "threshold" else drawn)).to(x.dtype)
        mean = model.encode(x, label).mean  # (N, Z)
        shown: dict[str, Any] = {"codes": code_map(mean, batch.targets, names=self.class_names)}
        if not model.is_image:
            made = model.sample(512, generator=generator_at(self.seed, "rows"))
            return shown | {"columns": table_columns(x, made)}
        return shown | self.pictures(x, mean, label)

    def pictures(self, x: Tensor, mean: Tensor, label: Tensor | None) -> dict[str, Tensor]:
        """Of images (N, C, H, W), the means (N, Z) of their codes and their labels."""
        model: Any = self.model
        few, size = slice(0, 3 * ACROSS), mean.shape[1]
        told = None if label is None else label[few]
        shown = {"reconstructions": pairs(x[few], model.from_latent(mean[few], told), ACROSS)}
        z = model.latent(ACROSS, generator=generator_at(self.seed, "shown")).repeat(ACROSS, 1)  # one row of codes
        kinds = None
        if label is None or label.ndim > 1:  # as many rows as columns
            z = model.latent(ACROSS * ACROSS, generator=generator_at(self.seed, "shown"))
        else:  # a row for each class, a column for each code
            kinds = torch.arange(model.num_classes, device=z.device).repeat_interleave(ACROSS)[: ACROSS * ACROSS]
            z = z[: len(kinds)]
        shown["samples"] = tiles(model.from_latent(z, kinds), ACROSS)
        units = mean.var(0, correction=0).argsort(descending=True)[:WALKED].tolist()
        codes = walks(mean[0], units, ACROSS)
        first = None if label is None else label[:1].repeat_interleave(len(codes), 0)
        shown["latent_walk"] = tiles(model.from_latent(codes, first), ACROSS)
        half = -(-min(2 * WALKED, len(mean)) // 2)
        codes = between(mean[:half], mean[-half:], ACROSS)
        of_both = None if label is None else label[:half].repeat_interleave(ACROSS, 0)
        shown["interpolation"] = tiles(model.from_latent(codes, of_both), ACROSS)
        if size == 2:
            codes = plane(MANIFOLD).to(mean)
            first = None if label is None else label[:1].repeat_interleave(len(codes), 0)
            shown["manifold"] = tiles(model.from_latent(codes, first), MANIFOLD)
        return shown
