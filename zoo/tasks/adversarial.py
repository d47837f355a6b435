"""A generator learns from a discriminator, which learns to tell what it makes from what is real.

Goodfellow et al., "Generative adversarial nets", 2014 (arXiv 1406.2661), algorithm 1; `zoo.losses.adversarial` has the
losses. In each iteration, which is one batch, both have their turn: first the discriminator, on the batch and as many
samples made from new noise; then, in every `n_critic`-th iteration, the generator, on new noise again. Each is trained
by an optimizer of its own (`zoo.optim.Alternating`), and to whatever counts, schedules, clips or saves that is one
update.

The one whose turn it is not stays as it is: it gets no gradient, and statistics of batch norm that it keeps do not
move. (Radford et al. never look at running statistics: theirs are of the batch at hand, in training and in use. In much
of the code that followed them those of the discriminator move in the generator's turn, too.) In its own turn the
discriminator sees real and generated samples in batches of their own, as Radford et al. have it.

An average of the weights (callbacks.ema.decay) is what is validated, tested and kept; the samples that are shown after
an epoch with validation are its, too. It is the generator's average that is meant (Yazici et al. 2019, arXiv
1806.04498); the discriminator's losses in validation are then those of two averages, and what is shown of the
discriminator is its newest.

No loss says how good the samples are, so by default the last epoch is kept; `monitor` may name a measure that does.

Axes: B batch, N samples, Z latent, K classes or modes
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from zoo.errors import UserError, suggest
from zoo.losses.adversarial import LOSSES, as_float, between, clip, gradient_penalty, r1_penalty, slopes
from zoo.metrics.generative import mixture_quality, parzen, transport_cost
from zoo.noise import Noise
from zoo.optim import Alternating, build_optimizer
from zoo.pictures.generated import extent_of, history_of_images, history_of_points, mosaic, plane, scores
from zoo.pictures.points import grid
from zoo.tasks.base import Task

MONITORS = {"modes": "max", "high_quality": "max", "parzen": "max"}
METHODS = ("generator", "discriminator", "latent", "from_latent", "sample", "prior", "latent_size")
IN_VALIDATION = 2500  # samples of a mixture that are counted after each epoch, as in the VEEGAN paper
PAIRED = 1000  # points on either side of the exact transport
SHOWN, ROW = 64, 12  # images, and of them in a row of the history
CLOUD, CELLS, CHUNK = 512, 100, 500  # points; cells of the field's side; samples made at a time


def frozen(module: nn.Module) -> dict[str, Tensor]:
    """Parameters without gradient and copies of the buffers: to call a network with, and leave it as it is."""
    parameters = {name: parameter.detach() for name, parameter in module.named_parameters()}
    return parameters | {name: buffer.clone() for name, buffer in module.named_buffers()}


class Adversarial(Task):
    """Two networks, two losses, one iteration a batch.

    Args:
        model: has `generator(z, label)`, `discriminator(x, label)`, `latent_size`, `prior` and what makes samples of
            them; see `zoo.layers.adversaries.Adversaries`.
        optimizer: called for each of the two.
        scheduler: see `Task`; it moves the rates of both.
        loss: a name in `zoo.losses.adversarial.LOSSES`.
        gradient_penalty: weight of (|gradient| - 1)^2 between real and generated samples.
        r1: weight of |gradient|^2 / 2 on real samples.
        clip: largest weight of the discriminator, kept so after each of its steps; None: any.
        n_critic: the generator moves in every n-th iteration of the run.
        discriminator_lr: None: that of the optimizer.
        label_smoothing: what the target of real samples is below 1.
        instance_noise: deviation of normal noise on all that the discriminator sees in training (Sonderby et al. 2017,
            arXiv 1610.04490).
        samples: that the test makes to judge the generator by; 0: none.
        monitor: "modes", "high_quality", "parzen", or None.
        seed: of the noise.

    Attributes:
        alternating: whose `turn` it is; None before an optimizer is there, and then `losses` has both turns at once.
        history: (epoch, samples from always the same noise) of epochs 1, 2, 4, 8, ...
    """

    batches = ("ImageBatch", "TableBatch")
    shows_every_epoch = True

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[..., Any],
        scheduler: Callable[..., Any] | None = None,
        *,
        loss: str = "non_saturating",
        gradient_penalty: float = 0.0,
        r1: float = 0.0,
        clip: float | None = None,
        n_critic: int = 1,
        discriminator_lr: float | None = None,
        label_smoothing: float = 0.0,
        instance_noise: float = 0.0,
        samples: int = 10_000,
        monitor: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(model, optimizer, scheduler)
        if loss not in LOSSES:
            raise UserError(f"There is no task.loss={loss}{suggest(loss, LOSSES)}")
        if monitor is not None and monitor not in MONITORS:
            raise UserError(f"There is no task.monitor={monitor}{suggest(monitor, MONITORS)}")
        bounds = {"gradient_penalty": gradient_penalty, "r1": r1, "instance_noise": instance_noise}
        limits: dict[str, Any] = {name: (value, value >= 0, "a number from 0 on") for name, value in bounds.items()}
        limits["samples"] = (samples, samples >= (monitor == "parzen"), "from 0 on, for task.monitor=parzen from 1 on")
        limits["n_critic"] = (n_critic, n_critic >= 1, "a whole number from 1 on")
        limits["clip"] = (clip, clip is None or clip > 0, "above 0, or null")
        limits["label_smoothing"] = (label_smoothing, 0 <= label_smoothing < 1, "from 0 to below 1")
        for name, (given, fits, what) in limits.items():
            if not fits:
                raise UserError(f"task.{name}={given} must be {what}.")
        if label_smoothing and not LOSSES[loss].can_smooth:
            raise UserError(f"task.label_smoothing is of targets, and task.loss={loss} has none; leave it at 0.")
        self.loss_name, self.pair = loss, LOSSES[loss]
        self.gradient_penalty, self.r1, self.clip, self.n_critic = gradient_penalty, r1, clip, n_critic
        self.discriminator_lr, self.instance_noise, self.samples = discriminator_lr, instance_noise, samples
        self.smoothing = {"smoothing": label_smoothing} if label_smoothing else {}
        self.monitor, self.mode = f"val/{monitor}" if monitor else "", MONITORS.get(monitor or "", "min")
        self.seed = seed
        self.alternating: Alternating | None = None
        self.of_discriminator: dict[str, Tensor] = {}  # what its newest turn has shown
        self.generated: dict[str, Tensor] = {}  # samples that a stage is judged by
        self.shown: Tensor | None = None  # made in the newest validation, from always the same noise
        self.history: list[tuple[int, Tensor]] = []
        self.found: dict[str, float] = {}

    # ---- what is trained

    @classmethod
    def compared_by(cls, config: Mapping[str, Any]) -> tuple[str, str]:
        monitor = config["task"].get("monitor")
        if monitor is None:
            hint = "sweep.metric=test/parzen sweep.mode=max, or of rows sweep.metric=test/transport sweep.mode=min"
            raise UserError(f"No loss says how good the samples of a generator are; give {hint}.")
        return f"val/{monitor}", MONITORS.get(monitor, "max")

    def check(self, batch: Any) -> None:
        super().check(batch)
        missing = [name for name in METHODS if not hasattr(self.model, name)]
        if missing:
            raise UserError(
                f"{type(self.model).__name__} has no {' and no '.join(missing)}, which adversarial training needs; use "
                "model=gan or model=dcgan."
            )
        x, label = batch.inputs[0], batch.targets
        if x.ndim == 4 and not (float(x.min()) >= 0 and float(x.max()) <= 1):
            raise UserError("A generator makes pixels from 0 to 1, and this data has others; use data.normalize=false.")
        if self.num_classes and (label.ndim != 1 or label.is_floating_point()):
            raise UserError("model.num_classes asks for one class a sample, and this data has none; use null.")
        normed = any(isinstance(module, _BatchNorm) for module in self.two.discriminator.modules())
        if normed and (self.gradient_penalty or self.r1):
            raise UserError(
                "A gradient penalty is each sample's own, and batch norm mixes them; use "
                "model.discriminator_norm=layer, spectral or none."
            )
        was_training = self.model.training
        made = self.two.eval().sample(2, generator=torch.Generator().manual_seed(0))
        self.model.train(was_training)
        if made.shape[1:] != x.shape[1:]:
            raise UserError(
                f"{type(self.model).__name__} makes samples of shape {tuple(made.shape[1:])}, and those of the data "
                f"are of shape {tuple(x.shape[1:])}."
            )

    def configure_optimizers(self) -> Any:
        trainer = self.trainer
        if trainer.accumulate_grad_batches != 1:
            raise UserError(
                "trainer.accumulate_grad_batches is not for two networks that take turns in every batch; use a larger "
                "data.batch_size."
            )
        if str(trainer.precision).startswith("16"):
            raise UserError(f"trainer.precision={trainer.precision} scales one loss, and here are two; use bf16-mixed.")
        asked = self.monitor.removeprefix("val/")
        if asked and not (self.is_of_images if asked == "parzen" else self.mixture):
            needed = "images" if asked == "parzen" else "a known mixture, such as data=ring or data=grid"
            raise UserError(f"task.monitor={asked} is for {needed}, and this data is of another kind.")
        turns = {}
        try:
            for name, rate in (("discriminator", self.discriminator_lr), ("generator", None)):
                make = self.build_optimizer if rate is None else partial(self.build_optimizer, lr=rate)
                turns[name] = build_optimizer(make, getattr(self.model, name), self.rates)
            if isinstance(turns["generator"], torch.optim.LBFGS):
                raise UserError("L-BFGS searches along a line of one loss, and here are two; use optimizer=adam.")
            if self.clip is not None:
                turns["discriminator"].register_step_post_hook(
                    lambda *_: clip(self.two.discriminator.parameters(), self.clip or 0.0)
                )
            self.alternating = Alternating(turns, {"generator": self.n_critic})
            if self.build_scheduler is None:
                return self.alternating
            schedule = self.build_scheduler(self.alternating, *self.planned_updates())
            return {"optimizer": self.alternating, "lr_scheduler": schedule}
        except (ValueError, TypeError, IndexError, ZeroDivisionError) as error:
            raise UserError(f"The optimizer or its schedule refuses its settings: {error}") from error

    @property
    def two(self) -> Any:
        """The model, of whatever class."""
        return self.model

    @property
    def attached(self) -> bool:
        """Whether there is a trainer to ask."""
        return getattr(self, "_trainer", None) is not None

    @property
    def num_classes(self) -> int | None:
        return getattr(self.model, "num_classes", None)

    # ---- one turn

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """ "loss" is that of whose turn it is; the sum of both in evaluation, where nobody is trained."""
        x, label = batch.inputs[0], batch.targets if self.num_classes else None
        turn = self.alternating.turn if self.training and self.alternating is not None else None
        parts = []
        if turn != "generator":
            loss, self.of_discriminator = self.discriminators_turn(x, label)
            parts.append(loss)
        values = dict(self.of_discriminator)
        if turn != "discriminator":
            values["loss/generator"] = self.generators_turn(x, label)
            parts.append(values["loss/generator"])
        together = turn is not None and self.attached and self.trainer.world_size > 1
        if together:  # DDP waits for a gradient of every parameter
            other = self.two.discriminator if turn == "generator" else self.two.generator
            parts.append(0.0 * torch.stack([p.sum() for p in other.parameters() if p.requires_grad]).sum())
        return {"loss": torch.stack(parts).sum(), **values}

    def discriminators_turn(self, x: Tensor, label: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Its loss, and what is worth watching; also the generator's loss on these samples, which costs nothing."""
        generator, discriminator = self.two.generator, self.two.discriminator
        with torch.no_grad():
            fake = functional_call(generator, frozen(generator), (self.latent("discriminator", x), label))
        x, fake = self.noisy("real", x), self.noisy("fake", fake)
        real_logits, fake_logits = as_float(discriminator(x, label)), as_float(discriminator(fake, label))  # (B,)
        loss = self.pair.discriminator(real_logits, fake_logits, **self.smoothing)
        values = {}
        if torch.is_grad_enabled() and self.gradient_penalty:
            share = self.draw("uniform", "share", (), x)  # (B,)
            slope = slopes(lambda at: as_float(discriminator(at, label)), between(x, fake, share))  # (B,)
            values["gradient_penalty"] = gradient_penalty(slope)
            values["slope"] = slope.mean()
            loss = loss + self.gradient_penalty * values["gradient_penalty"]
        if torch.is_grad_enabled() and self.r1:
            values["r1"] = r1_penalty(slopes(lambda at: as_float(discriminator(at, label)), x))
            loss = loss + self.r1 * values["r1"]
        name, answer = ("probability", self.pair.probability) if self.pair.probability else ("score", lambda a: a)
        values[f"{name}/real"], values[f"{name}/fake"] = answer(real_logits).mean(), answer(fake_logits).mean()
        if self.loss_name == "wasserstein":
            values["wasserstein"] = real_logits.mean() - fake_logits.mean()
        values |= {"loss/discriminator": loss, "loss/generator": self.pair.generator(fake_logits)}
        return loss, {key: value.detach() for key, value in values.items()}

    def generators_turn(self, x: Tensor, label: Tensor | None) -> Tensor:
        """Its loss on as many new samples as the batch x has."""
        discriminator = self.two.discriminator
        fake = self.noisy("generator", self.two.generator(self.latent("generator", x), label))
        logits = functional_call(discriminator, frozen(discriminator), (fake, label))  # (B,)
        return self.pair.generator(as_float(logits))

    def draw(self, kind: str, name: str, shape: tuple[int, ...], x: Tensor) -> Tensor:
        """(B, *shape) of noise, "normal" or "uniform", of which each process has its rows of the global batch."""
        noise = self.noise(self.seed) if self.attached else Noise(self.seed)
        rows = len(x) * noise.world_size
        if self.attached and self.data is not None:
            in_training = self.batch_at_hand[0] == "train"
            whole = self.data.train_batch_size if in_training else self.data.eval_batch_size
            rows = whole if len(range(noise.rank, whole, noise.world_size)) >= len(x) else rows
        return getattr(noise, kind)(shape, at=(*self.place(), name), rows=rows, like=x)

    def latent(self, name: str, x: Tensor) -> Tensor:
        """z (B, Z) of the model's prior, for as many samples as x has."""
        size = (self.two.latent_size,)
        if self.two.prior == "uniform":
            return 2 * self.draw("uniform", f"z of {name}", size, x) - 1
        return self.draw("normal", f"z of {name}", size, x)

    def noisy(self, name: str, x: Tensor) -> Tensor:
        if self.instance_noise and self.training:
            x = x + self.instance_noise * self.draw("normal", f"on {name}", tuple(x.shape[1:]), x)
        return x

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        # What is shown and averaged is of the iteration, whoever's turn is the last.
        self.latest["loss"] = self.latest["loss/discriminator"] + self.latest["loss/generator"]
        return loss

    # ---- how good it is

    @property
    def data(self) -> Any:
        return getattr(self.trainer, "datamodule", None)

    @property
    def mixture(self) -> tuple[Tensor, float] | None:
        """Centres (K, D) and deviation of a known mixture; None of other data."""
        data = self.data
        return (data.centers, data.std) if hasattr(data, "centers") and hasattr(data, "std") else None

    def make(self, number: int, seed: int = 1) -> Tensor:
        """(number, *shape) samples, always from the same noise, of all classes in turn; on the CPU."""
        generator, labels = torch.Generator().manual_seed(seed), torch.arange(number) % (self.num_classes or 1)
        parts = labels.split(CHUNK)
        return torch.cat([self.two.sample(len(some), generator=generator, label=some).cpu() for some in parts])

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        # Here and not at the end of validation: until then the weights at hand may be averages (zoo.callbacks.ema).
        self.shown = self.make(SHOWN if self.is_of_images else CLOUD, seed=0)
        wanted = self.samples if self.monitor == "val/parzen" else IN_VALIDATION if self.mixture else 0
        self.generated = {"val": self.make(wanted)} if wanted else {}

    def on_test_epoch_start(self) -> None:
        super().on_test_epoch_start()
        self.generated = {"test": self.make(self.samples)} if self.samples else {}

    @property
    def is_of_images(self) -> bool:
        return len(self.rows("train", 1).shape) == 4

    def rows(self, part: str, most: int, *, shuffled: bool = False) -> Tensor:
        """The first samples of a part, or some of all its places, (M, *shape) on the CPU."""
        dataset, generator = self.data.part(part), torch.Generator().manual_seed(0)
        places = torch.randperm(len(dataset), generator=generator) if shuffled else torch.arange(len(dataset))
        return torch.cat([dataset[some].inputs[0] for some in places[:most].split(CHUNK)])

    def whole_set_metrics(self, stage: str) -> dict[str, float]:
        made = self.generated.get(stage)
        if made is None:
            return {}
        found: dict[str, float] = {}
        if self.mixture is not None:
            quality = mixture_quality(made.flatten(1), *self.mixture)
            found |= {"modes": float(quality.modes), "high_quality": quality.high_quality}
        if self.is_of_images and (stage == "test" or self.monitor == "val/parzen"):
            found |= self.parzen_of(stage, made)
        if not self.is_of_images and stage == "test":
            real = self.rows("test", PAIRED)
            number = min(len(real), len(made), len(self.data.part("train")))
            found["transport"] = transport_cost(real[:number], made[:number])
            floor = transport_cost(real[:number], self.rows("train", number, shuffled=True))
            self.found |= {"transport_floor": floor, "transport_points": float(number)}
        return found

    def parzen_of(self, stage: str, made: Tensor) -> dict[str, float]:
        """The Parzen likelihood of a stage; in the test beside what real training images would get as samples."""
        parts = self.data.prepare().parts
        validation = self.rows("val" if "val" in parts else "train", len(made))
        points = self.rows(stage, 10_000 if stage == "test" else 1000)
        estimate = parzen(made, validation, points)
        if stage == "test":
            real = parzen(self.rows("train", len(made), shuffled=True), validation, points)
            self.found |= {"parzen_standard_error": estimate.standard_error, "parzen_sigma": estimate.sigma}
            self.found |= {"parzen_ceiling": real.mean, "parzen_ceiling_standard_error": real.standard_error}
        return {"parzen": estimate.mean}

    def findings(self) -> dict[str, float]:
        """Beside the metrics of the test: their errors, and what real samples would get."""
        return self.found

    # ---- what is worth seeing

    def show(self, batch: Any) -> dict[str, Any]:
        """Samples from always the same noise, how they came about, and what the discriminator says of real and fake."""
        x, label = batch.inputs[0], batch.targets if self.num_classes else None
        testing = bool(getattr(self.trainer, "testing", False))
        of_images = x.ndim == 4
        made = self.make(SHOWN if of_images else CLOUD, seed=0) if self.shown is None or testing else self.shown
        self.shown = None
        with torch.no_grad():
            # A conditional generator made the classes in turn.
            classes = torch.arange(len(made), device=x.device) % self.num_classes if self.num_classes else None
            answers = [self.two.discriminator(*pair) for pair in ((x, label), (made.to(x), classes))]
        what = "logit" if self.pair.probability is torch.sigmoid else "score"
        shown: dict[str, Any] = {"discriminator": scores(*answers, xlabel=f"{what} of the discriminator")}
        if of_images:
            shown["generated"] = mosaic(made, 8)
        elif x.shape[1] >= 2:
            shown["generated"] = self.plane(x, made, what)
        epoch = self.current_epoch + 1
        rare = epoch & (epoch - 1) == 0 or epoch == self.trainer.max_epochs
        if rare and not testing and (of_images or x.shape[1] >= 2):
            shown["history"] = self.remembered(made, x[:, :2].cpu())
        return shown

    def plane(self, real: Tensor, made: Tensor, what: str) -> Any:
        """The first two values of real and generated rows; where there are no others, what the discriminator says."""
        extent = extent_of(real[:, :2].cpu())
        field = None
        if real.shape[1] == 2 and not self.num_classes:
            with torch.no_grad():
                field = self.two.discriminator(grid(extent, CELLS).to(real)).view(CELLS, CELLS)
        points = (real[:, :2].cpu(), made[:, :2])
        return plane(*points, field, extent, what=f"{what} of the discriminator", centred=what == "logit")

    def remembered(self, made: Tensor, real: Tensor) -> Any:
        """The history with this epoch as its end; epochs 1, 2, 4, 8, ... stay in it, the last of a run does not."""
        epoch = self.current_epoch + 1
        row = (255 * made[:ROW].float().clamp(0, 1)).round().byte() if made.ndim == 4 else made[:, :2].float()
        rows = [*self.history, (epoch, row.clone())]
        if epoch & (epoch - 1) == 0:
            self.history = rows
        epochs, stacked = [number for number, _ in rows], torch.stack([samples for _, samples in rows])
        return history_of_images(stacked / 255, epochs) if made.ndim == 4 else history_of_points(stacked, epochs, real)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # Not a buffer: it grows, and an average of weights would take it for one of them.
        checkpoint["generated"] = {"epochs": [n for n, _ in self.history], "samples": [row for _, row in self.history]}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint.get("generated") or {"epochs": [], "samples": []}
        self.history = list(zip(saved["epochs"], saved["samples"], strict=True))
