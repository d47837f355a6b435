"""Saying an input again: autoencoders, plain, denoising, sparse and contractive.

    loss = error(decode(encode(seen)), x)  +  sparsity_weight * sparsity(z)  +  contraction * |dz/dx|^2

The error of a sample is the sum over its values, in squares ("mse") or in nats ("bce"), and the loss is the mean over
samples: an image of 784 pixels has 784 times the loss that a mean over pixels would show. `seen` is the input itself,
or the input with noise (denoising); what is said is compared with the input without it. See `zoo.losses.reconstruction`
for each term and its source.

What is reported, means over the samples of a part:
    squared_error             of what is said of the input as it is, summed over its values
    denoising_squared_error   the same of the input with noise; noise_squared_error is that of the noise itself
    constant_squared_error    of saying the training part's mean each time
    pca_squared_error         of PCA with as many codes, fitted to the training part (test alone)
    r2, denoising_r2, pca_r2  1 - squared_error / constant_squared_error: the share of the variance that is explained
    psnr, denoising_psnr      10 log10(1 / mean squared error of a pixel) in dB, for pixels in [0, 1]
    activity                  mean code; sparsity, contraction: the terms above, without their weights

Noise of training is a function of (seed, epoch, batch), that of validation and test of (seed, part, batch). KL compares
mean activities over samples, and a mean over few is rougher than one over many: training takes those of a batch (of
all processes together), validation and test those of the whole part.

Axes: B batch, F values of a sample, Z codes
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import UserError, suggest
from zoo.losses.reconstruction import (
    NOISE,
    contraction,
    contraction_of_sigmoids,
    cross_entropies,
    kl_sparsity,
    l1_sparsity,
    squared_errors,
)
from zoo.metrics.codes import PCA, fit_mean, fit_pca, in_the_plane
from zoo.noise import Noise
from zoo.pictures.codes import code_map, reconstructions, rows_said_again
from zoo.tasks.base import Means, Task

LOSSES, SPARSITY = ("mse", "bce"), ("none", "kl", "l1")
CHUNK = 4096  # samples that are read at once
QUICK = 1e11  # multiplications of PCA, some seconds
SHOWN = 12  # images


class Reconstruction(Task):
    """The input itself is the target; labels serve to colour pictures.

    Args:
        model: has encode (B, ...) -> (B, Z) and decode (B, Z) -> (B, ...), and says what it is told: forward is both.
        optimizer, scheduler: see `Task`.
        loss: "mse", or "bce" of logits, for images with pixels in [0, 1].
        noise: "none", or what spoils the input: "gaussian", "masking" or "salt_and_pepper".
        noise_level: deviation of the Gaussian; of the others, how often a value is spoilt, from 0 to 1.
        sparsity: "none", "kl" (of codes in [0, 1]) or "l1".
        sparsity_weight: of it in the loss.
        target_activity: rho of KL, between 0 and 1.
        contraction: weight of the Jacobian in the loss; 0 leaves it out.
        pca: whether PCA stands beside the test; None: where that takes no more than seconds.
        seed: of the noise.
        class_names: for pictures.
    """

    batches = ("ImageBatch", "TableBatch")
    shows_every_epoch = True

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[..., Any],
        scheduler: Callable[..., Any] | None = None,
        *,
        loss: str = "mse",
        noise: str = "none",
        noise_level: float = 0.1,
        sparsity: str = "none",
        sparsity_weight: float = 0.1,
        target_activity: float = 0.05,
        contraction: float = 0.0,
        pca: bool | None = None,
        seed: int = 0,
        class_names: Sequence[str] = (),
    ) -> None:
        super().__init__(model, optimizer, scheduler)
        for key, value, known in (
            ("loss", loss, LOSSES),
            ("noise", noise, ("none", *NOISE)),
            ("sparsity", sparsity, SPARSITY),
        ):
            if value not in known:
                raise UserError(f"There is no task.{key}={value}{suggest(value, known)}")
        if noise_level < 0 or (noise_level > 1 and noise in ("masking", "salt_and_pepper")):
            most = "from 0 on" if noise_level < 0 else f"from 0 to 1: how often task.noise={noise} spoils a value"
            raise UserError(f"task.noise_level={noise_level} must be a number {most}.")
        if not 0 < target_activity < 1:
            raise UserError(f"task.target_activity={target_activity} must be a number between 0 and 1.")
        if min(sparsity_weight, contraction) < 0:
            raise UserError("task.sparsity_weight and task.contraction must be numbers from 0 on.")
        if pca not in (True, False, None):
            raise UserError(f"task.pca={pca} must be true, false or null.")
        self.kind, self.spoils, self.noise_level = loss, None if noise == "none" else noise, noise_level
        self.sparsity, self.sparsity_weight, self.target_activity = sparsity, sparsity_weight, target_activity
        self.contraction, self.with_pca, self.seed = contraction, pca, seed
        self.class_names = list(class_names)
        self.activities = {stage: Means() for stage in ("val", "test")}  # of each unit, {number: mean}
        self.constant: Tensor | None = None  # (F,), the training part's mean
        self.pca: PCA | None = None
        self.num_values = 1  # F

    def answer_of(self, x: Tensor) -> Any:
        """The shape of the model's answer; nothing is drawn for it."""
        was_training = self.model.training
        with torch.no_grad():
            shape = getattr(self.model.eval()(x), "shape", None)
        self.model.train(was_training)
        return shape

    def check(self, batch: Any) -> None:
        super().check(batch)
        name = type(self.model).__name__
        missing = [method for method in ("encode", "decode") if not hasattr(self.model, method)]
        lack = f"has no {' and no '.join(missing)}" if missing else ""
        if hasattr(self.model, "latent"):  # a code is drawn, not computed
            lack = "is trained by task=variational, which its yaml brings"
        if not lack and self.answer_of(batch.inputs[0]) != batch.inputs[0].shape:
            lack = "gives back no input by itself"
        if lack:
            raise UserError(f"{name} {lack}; use model=autoencoder or model=conv_autoencoder.")
        if self.kind == "bce" and getattr(self.model, "output_activation", None):
            raise UserError(
                f"task.loss=bce takes logits, and model.output_activation={self.model.output_activation} gives none; "
                "use model.output_activation=null."
            )
        asked = "task.loss=bce" if self.kind == "bce" else "task.noise=salt_and_pepper"
        x = batch.inputs[0]
        pixels = x.ndim == 4 and float(x.min()) >= 0 and float(x.max()) <= 1
        if not pixels and (self.kind == "bce" or self.spoils == "salt_and_pepper"):
            other = "use task.loss=mse" if self.kind == "bce" else "use task.noise=gaussian or masking"
            mend = "use data.normalize=false" if x.ndim == 4 else other
            raise UserError(f"{asked} is for images with pixels from 0 to 1, and this data has others; {mend}.")
        if self.sparsity == "kl" and getattr(self.model, "code_activation", "Sigmoid") != "Sigmoid":
            raise UserError(
                "task.sparsity=kl takes a code for how often a unit fires, from 0 to 1; use "
                "model.code_activation=Sigmoid, or task.sparsity=l1."
            )

    # ---- what is minimized

    def corrupted(self, x: Tensor, at: Sequence[int | str], noise: Noise, rows: int) -> Tensor:
        """The input with noise, a pure function of where it is drawn; the input itself where there is none."""
        if self.spoils is None:
            return x
        kind, spoil = NOISE[self.spoils]
        drawn = getattr(noise, kind)(tuple(x.shape[1:]), at=(*at, "corruption"), rows=rows, like=x)
        return spoil(x, drawn, self.noise_level)

    def seen(self, x: Tensor) -> Tensor:
        """What the model is told of the batch at hand."""
        if self.spoils is None:
            return x
        if self._trainer is None:
            return self.corrupted(x, self.place(), Noise(self.seed), len(x))
        data: Any = self.trainer.datamodule
        rows = data.train_batch_size if self.batch_at_hand[0] == "train" else data.eval_batch_size
        return self.corrupted(x, self.place(), self.noise(self.seed), int(rows))

    def said(self, answer: Tensor) -> Tensor:
        """What a decoder gives, in the units of the input."""
        return answer.sigmoid() if self.kind == "bce" else answer

    def passed(self, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """A batch seen, its codes (B, Z) where something is asked of them, and what the decoder gives."""
        seen, model = self.seen(x), self.model
        if self.sparsity == "none" and self.contraction == 0:
            return seen, None, model(seen)
        codes = model.encode(seen)  # type: ignore[operator]
        return seen, codes, model.decode(codes)  # type: ignore[operator]

    def losses(self, batch: Any) -> dict[str, Tensor]:
        x = batch.inputs[0]
        return self.terms(x, *self.passed(x))

    def terms(self, x: Tensor, seen: Tensor, codes: Tensor | None, answer: Tensor) -> dict[str, Tensor]:
        """The loss and its parts, each a mean over samples."""
        self.num_values = x[0].numel() if len(x) else self.num_values
        squared = squared_errors(self.said(answer), x).mean()
        loss = squared if self.kind == "mse" else cross_entropies(answer, x).mean()
        found = {"squared_error" if self.spoils is None else "denoising_squared_error": squared.detach()}
        if codes is None:
            return {"loss": loss} | found
        if self.sparsity != "none":
            found["activity"] = codes.detach().mean()
        if self.sparsity == "l1" or (self.sparsity == "kl" and self.training):
            found["sparsity"] = l1_sparsity(codes).mean() if self.sparsity == "l1" else self.kl_of_batch(codes)
            loss = loss + self.sparsity_weight * found["sparsity"]
        if self.contraction > 0:
            found["contraction"] = self.contractions(seen, codes).mean()
            loss = loss + self.contraction * found["contraction"]
        return {"loss": loss} | found

    def kl_of_batch(self, codes: Tensor) -> Tensor:
        """KL of the activities over the batch of all processes; every process must call it.

        Its gradient is that of this process's share in them: averaged by shares, it is that of the global batch.
        """
        codes = codes.to(torch.promote_types(codes.dtype, torch.float32))  # sums want 32 bits
        activity = codes.sum(0) / max(1, len(codes))  # (Z,)
        if self._trainer is not None and self.trainer.world_size > 1:
            totals = torch.cat([codes.detach().double().sum(0), codes.new_tensor([len(codes)], dtype=torch.float64)])
            self.add_up(totals)
            everywhere = (totals[:-1] / totals[-1].clamp(min=1)).to(codes.dtype)
            activity = activity + (everywhere - activity).detach()
        return kl_sparsity(activity, self.target_activity)

    def contractions(self, seen: Tensor, codes: Tensor) -> Tensor:
        """(B,), in closed form where the model offers one; validation needs gradients of its own."""
        weight = getattr(self.model, "one_sigmoid_layer", None)
        if weight is not None:
            return contraction_of_sigmoids(codes, weight)
        encode: Any = self.model.encode
        if self.training:
            return contraction(encode, seen)
        with torch.inference_mode(False), torch.enable_grad():
            return contraction(encode, seen.clone()).detach()

    # ---- what is judged

    def start(self, stage: str) -> None:
        super().start(stage)
        self.activities[stage].reset()
        if self._trainer is None:
            return
        if self.constant is None:
            self.constant = fit_mean(self.training_rows())
        if stage == "test" and self.pca is None and self.wants_pca():
            size = getattr(self.model, "latent_size", None)
            self.pca = None if size is None else fit_pca(self.training_rows(), size)

    def training_rows(self) -> Iterator[Tensor]:
        """The training part as rows (n, F), some at a time; of what does not lie in memory, a part of it."""
        part = self.trainer.datamodule.part("train")
        number = len(part)
        few = number if hasattr(part, "tensors") or self.with_pca else min(number, CHUNK)
        for places in torch.linspace(0, number - 1, few).round().long().split(CHUNK):
            yield part[places].inputs[0].flatten(1)

    def wants_pca(self) -> bool:
        part = self.trainer.datamodule.part("train")
        cost = len(part) * part[torch.tensor([0])].inputs[0].numel() ** 2
        return self.with_pca if self.with_pca is not None else hasattr(part, "tensors") and cost <= QUICK

    @property
    def pixels(self) -> bool:
        """Whether the inputs are pixels in [0, 1], as the data says."""
        data = getattr(self.trainer, "datamodule", None) if self._trainer is not None else None
        prepared: dict[str, Any] = data.prepare().preprocessing if data is not None else {}
        means, spreads = prepared.get("mean"), prepared.get("std")
        return prepared.get("kind") == "image" and not any(means or [1]) and set(spreads or []) == {1.0}

    def evaluate(self, stage: str, batch: Any) -> None:
        x = batch.inputs[0]
        seen, codes, answer = self.passed(x)
        found = self.terms(x, seen, codes, answer)
        if self.spoils is not None:
            found["squared_error"] = squared_errors(self.said(self.model(x)), x).mean()
            found["noise_squared_error"] = squared_errors(seen, x).mean()
        if self.sparsity == "kl" and codes is not None:
            mean = codes.mean(0)  # (Z,)
            self.activities[stage].add({str(j): value for j, value in enumerate(mean)}, len(x))
        rows = x.flatten(1).double().cpu()  # (B, F)
        if self.constant is not None:
            found["constant_squared_error"] = squared_errors(rows, self.constant).mean()
        if stage == "test" and self.pca is not None:
            found["pca_squared_error"] = self.pca.squared_errors(rows).mean()
        self.means[stage].add(found, self.count_items(batch))

    def derived(self, means: dict[str, float]) -> dict[str, float]:
        found, constant = {}, means.get("constant_squared_error", 0.0)
        for kind in ("", "denoising_", "pca_"):
            error = means.get(f"{kind}squared_error")
            if error is not None and constant > 0:
                found[f"{kind}r2"] = 1 - error / constant
            if error is not None and kind != "pca_" and self.pixels:
                found[f"{kind}psnr"] = 10 * math.log10(self.num_values / error) if error > 0 else math.inf
        return found

    def whole_set_metrics(self, stage: str) -> dict[str, float]:
        """KL of the activities over the whole part, which the loss of no single batch has."""
        if self.sparsity != "kl":
            return {}
        activity, means = self.activities[stage].compute(), self.means[stage].compute()
        if not activity:
            return {}
        kl = float(kl_sparsity(torch.tensor(list(activity.values()), dtype=torch.float64), self.target_activity))
        return {"sparsity": kl, "loss": means["loss"] + self.sparsity_weight * kl}

    # ---- what is worth seeing

    def show(self, batch: Any) -> dict[str, Any]:
        """A few images, or rows, spoilt and said again, always with the same noise; and a map of the codes."""
        x, shown = batch.inputs[0], {}
        with torch.no_grad():
            codes = self.model.encode(x)  # type: ignore[operator]
            few = x[:SHOWN] if x.ndim == 4 else x
            seen = self.corrupted(few, ("show",), Noise(self.seed), len(few))
            said = self.said(self.model(seen))
        if x.ndim == 4:
            rows = {"input": few} | ({"with noise": seen} if self.spoils else {}) | {"reconstruction": said}
            shown["reconstructions"] = reconstructions(rows)
        else:
            shown["reconstructions"] = rows_said_again(few, said)
        if not codes.isfinite().all():
            return shown
        size = codes.shape[1]
        title = f"the {size} codes" if size <= 2 else f"first two principal components of {size} codes"
        shown["codes"] = code_map(in_the_plane(codes), batch.targets, self.class_names, title=title)
        return shown
