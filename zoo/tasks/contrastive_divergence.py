"""Learning restricted Boltzmann machines, one or a stack of them, by contrastive divergence.

The gradient is the difference of two means, over the data and over samples of the machine (zoo.losses.boltzmann); it is
computed from these and handed to the optimizer, without backpropagation.

    CD-k (Hinton 2002)              the samples: k steps of a Gibbs chain from the data of the batch
    persistent CD (Tieleman 2008)   the samples: chains that go on from batch to batch, k steps for each

Neither follows the gradient of anything that could be shown, so what is shown stands beside it. Of a batch:

    loss                     -log p(v | h), h drawn from P(h | v): how well one step of the chain gives back the data
    reconstruction_error     the same step's sum of squared errors
    hidden_activity          mean P(h = 1 | v)

and of validation and test, of binary data (grey pixels are rounded, as in the Theano tutorial, unless they are drawn):

    pseudo_likelihood        sum_i log p(v_i | all other v), in nats a sample
    free_energy_gap          mean F of validation less mean F of training samples: it grows where a machine learns by
                             heart (Hinton 2012, section 6)
    log_likelihood           exact, where one side has 16 units or fewer
    log_likelihood_ais       estimated (zoo.metrics.partition), in the test

Axes: B batch, C chains, V visible units, H hidden units
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import UserError, suggest
from zoo.losses.boltzmann import (
    Gradients,
    contrast,
    gibbs,
    handed_over,
    one_bit_pseudo_likelihood,
    pseudo_likelihood,
    reconstruction_loss,
)
from zoo.metrics.partition import annealed_importance, can_be_summed, log_partition
from zoo.metrics.probe import linear_probe
from zoo.noise import generator_at
from zoo.pictures.boltzmann import mosaic
from zoo.tasks.layerwise import LayerByLayer

PSEUDO_LIKELIHOODS = ("one_bit", "exact")
FAST = 2**16  # weights of a machine whose exact pseudo-likelihood takes about a second for 2,000 samples
KNOWN = 1000  # training samples whose free energy is compared with that of validation
FANTASIES, FANTASY_STEPS = 36, 200  # samples in a picture, and their Gibbs steps at most


class ContrastiveDivergence(LayerByLayer):
    """Restricted Boltzmann machines.

    Args:
        model, optimizer, scheduler, seed, epochs_per_layer: see `LayerByLayer`.
        k: Gibbs steps between data, or the chains' last states, and the samples.
        persistent: chains go on from batch to batch.
        chains: C, their number; over all processes together.
        binarize: pixels are drawn anew in each batch, 1 with the probability that they are. Else grey values count as
            probabilities.
        pseudo_likelihood: "exact", of all units, or "one_bit", of one drawn for each sample; None: exact where that is
            fast.
        ais_runs, ais_steps: runs of annealed importance sampling in the test, 0 for none, and distributions of each.
        probe: also test how well the features tell the classes apart, and how well the raw data do (zoo.metrics.probe).
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[..., Any],
        scheduler: Callable[..., Any] | None = None,
        *,
        seed: int = 0,
        epochs_per_layer: int | None = None,
        k: int = 1,
        persistent: bool = False,
        chains: int = 100,
        binarize: bool = False,
        pseudo_likelihood: str | None = None,
        ais_runs: int = 0,
        ais_steps: int = 1000,
        probe: bool = False,
    ) -> None:
        super().__init__(model, optimizer, scheduler, seed=seed, epochs_per_layer=epochs_per_layer)
        if pseudo_likelihood not in (None, *PSEUDO_LIKELIHOODS):
            known = suggest(str(pseudo_likelihood), PSEUDO_LIKELIHOODS)
            raise UserError(f"There is no task.pseudo_likelihood={pseudo_likelihood}{known}")
        for name, value, least in (("k", k, 1), ("chains", chains, 1), ("ais_runs", ais_runs, 0)):
            if value < least:
                raise UserError(f"task.{name}={value} must be a whole number from {least} on.")
        if binarize and not self.layers[0].is_binary:
            raise UserError("task.binarize=true draws pixels from 0 to 1; leave it out for model.visible=gaussian.")
        if ais_runs and len(self.layers) > 1:
            raise UserError("task.ais_runs estimates the likelihood of one machine; use it with model=rbm.")
        self.k, self.persistent, self.binarize = k, persistent, binarize
        small = max(layer.weight.numel() for layer in self.layers) <= FAST
        self.exact = pseudo_likelihood == "exact" or (pseudo_likelihood is None and small)
        self.ais_runs, self.ais_steps, self.probe = ais_runs, ais_steps, probe
        self.found: dict[str, float] = {}
        if len(self.layers) == 1 and self.layers[0].is_binary:
            self.monitor, self.mode = "val/pseudo_likelihood", "max"
        for level, layer in enumerate(self.layers) if persistent else ():
            noise = torch.rand(chains, len(layer.visible_bias), generator=generator_at(seed, "chains", level))
            self.register_buffer(f"chains_{level}", layer.drawn(layer.means(torch.zeros_like(noise)), noise))

    @classmethod
    def compared_by(cls, config: Mapping[str, Any]) -> tuple[str, str]:
        """By the pseudo-likelihood of one binary machine, else by the loss of the last layer."""
        model, is_image = config["model"], "image_shape" in config["data"]
        binary = model.get("visible") == "bernoulli" or (model.get("visible") is None and is_image)
        one = binary and isinstance(model.get("hidden_features"), int)
        return ("val/pseudo_likelihood", "max") if one else super().compared_by(config)

    def check(self, batch: Any) -> None:
        super().check(batch)
        if self.probe and (batch.targets.ndim != 1 or batch.targets.is_floating_point()):
            raise UserError("task.probe=true is for data with one class a sample; leave it out.")

    # ---- a step

    def losses(self, batch: Any) -> dict[str, Tensor]:
        layer, x = self.layers[self.level], self.pixels(batch.inputs[0])
        num_hidden = len(layer.hidden_bias)
        # In 32 bits also where the trainer mixes precisions: a gradient here is the difference of near means.
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            v = self.seen(x)  # (B, V)
            probable = layer(v)  # (B, H)
            h = (self.draw("hidden", num_hidden, v) < probable).to(v.dtype)  # (B, H)
            logits = layer.visible_logits(h)  # (B, V)
            means = layer.means(logits)  # (B, V)
            found = {
                "loss": reconstruction_loss(logits, v, layer.is_binary),
                "reconstruction_error": F.mse_loss(means, v, reduction="sum") / max(1, len(v)),
                "hidden_activity": probable.mean(),
            }
            if not self.training:
                return found | self.likelihoods(layer, v)
            samples = self.chains(layer) if self.persistent else self.chain(layer, means)  # (C, V)
            gradients = contrast(v, probable, samples, layer(samples))
        return found | {"loss": handed_over(found["loss"], self.shared_out(layer, gradients))}

    def pixels(self, x: Tensor) -> Tensor:
        """Samples (B, ...), drawn where that is asked for."""
        return (self.draw("data", x[0].numel(), x).view_as(x) < x).to(x.dtype) if self.binarize and len(x) else x

    def chain(self, layer: Any, means: Tensor) -> Tensor:
        """From the probabilities or means (B, V) of the first reconstruction on, to the k-th, (B, V)."""
        v = layer.drawn(means, self.draw("visible", means.shape[1], means))  # (B, V)
        return gibbs(layer, v, self.k - 1, lambda name, size: self.draw(name, size, v))

    def chains(self, layer: Any) -> Tensor:
        """Moves the persistent chains on, (C, V): each process its own rows of them, and then all know them all."""
        every: Tensor = getattr(self, f"chains_{self.level}")
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.is_attached else (0, 1)
        own = every[rank::world_size]  # (C of this process, V)
        moved = gibbs(layer, own, self.k, lambda name, size: self.draw(f"chains {name}", size, own, len(every)))
        if world_size > 1:
            every.zero_()
        every[rank::world_size] = moved
        if world_size > 1:
            self.add_up(every)  # zeros of the others and its own
        return every

    def shared_out(self, layer: Any, gradients: Gradients) -> dict[Tensor, Tensor]:
        """The gradient of each parameter; of layers that do not learn now only where several processes want one."""
        found = {getattr(layer, name): gradient for name, gradient in gradients._asdict().items()}
        return found | ({p: torch.zeros_like(p) for p in self.others} if self.together else {})

    # ---- how likely data are

    def likelihoods(self, layer: Any, v: Tensor) -> dict[str, Tensor]:
        """Means over validation or test data (B, V) as the layer sees them."""
        v = self.binary(layer, v)
        found = {"free_energy": layer.free_energy(v).mean()}
        if layer.is_binary and self.exact:
            found["pseudo_likelihood"] = pseudo_likelihood(layer, v).mean()
        elif layer.is_binary:
            noise = self.draw("flipped", 1, v)[:, 0]  # (B,)
            found["pseudo_likelihood"] = one_bit_pseudo_likelihood(layer, v, noise).mean()
        return found

    @staticmethod
    def binary(layer: Any, v: Tensor) -> Tensor:
        """Grey values of binary units, rounded."""
        return v.round() if layer.is_binary else v

    @torch.no_grad()
    def whole_set_metrics(self, stage: str) -> dict[str, float]:
        """Every process must call it."""
        found, layer = super().whole_set_metrics(stage), self.layers[self.level]
        energy = self.means[stage].compute().get("free_energy")
        if energy is None:
            return found
        if stage == "val":
            found["free_energy_gap"] = energy - float(layer.free_energy(self.known_samples(layer)).mean())
        if len(self.layers) == 1 and can_be_summed(layer):
            found["log_likelihood"] = -energy - float(log_partition(layer))
        if stage == "test" and self.ais_runs:
            found["log_likelihood_ais"] = -energy - self.estimated(layer)
        if stage == "test" and self.probe:
            found |= self.probed()
        return found

    def known_samples(self, layer: Any) -> Tensor:
        """Some training samples (N, V), evenly spread over the part, as the layer sees them."""
        part = self.trainer.datamodule.part("train")
        batch = part[torch.linspace(0, len(part) - 1, min(len(part), KNOWN)).long()]
        x = batch.inputs[0].to(self.device, self.dtype)
        if self.binarize:
            noise = torch.rand(x.shape, generator=generator_at(self.seed, "known samples")).to(x)
            x = (noise < x).to(x.dtype)
        return self.binary(layer, self.seen(x))

    def estimated(self, layer: Any) -> float:
        """log Z by annealed importance sampling from a machine that knows the mean of the data alone."""
        known = self.known_samples(layer)
        mean = known.mean(0)  # (V,)
        if layer.is_binary:
            mean = ((mean * len(known) + 1) / (len(known) + 2)).logit()  # no pixel is certain
        generator = generator_at(self.seed, "annealed importance sampling")
        found = annealed_importance(layer, runs=self.ais_runs, steps=self.ais_steps, generator=generator, base=mean)
        self.found = {
            "log_partition": found.log_partition,
            "log_partition_low": found.low,
            "log_partition_high": found.high,
        }
        return found.log_partition

    def findings(self) -> dict[str, float]:
        """What `metrics.json` holds of the estimate."""
        return self.found

    def probed(self) -> dict[str, float]:
        """Accuracy of a logistic regression on the features of the test part, and on its raw data."""
        data, batches = self.trainer.datamodule, {}
        for name in ("train", "test"):
            part = data.part(name)
            batches[name] = part[torch.arange(len(part))]
        raw = {name: batch.inputs[0].to(self.device, self.dtype) for name, batch in batches.items()}
        labels = {name: batch.targets for name, batch in batches.items()}
        features = {name: self.model(x) for name, x in raw.items()}
        return {
            "probe_accuracy": linear_probe(features["train"], labels["train"], features["test"], labels["test"]),
            "probe_accuracy_raw": linear_probe(raw["train"], labels["train"], raw["test"], labels["test"]),
        }

    # ---- what is worth seeing

    @torch.no_grad()
    def show(self, batch: Any) -> dict[str, Any]:
        """Beside filters, reconstructions and activity, what the machine takes for likely: fantasies."""
        model: Any = self.model
        shown, layer = super().show(batch), self.layers[self.level]
        if len(model.image_shape) == 3:
            if self.persistent:
                h = layer(getattr(self, f"chains_{self.level}")[:FANTASIES])  # (C, H)
            else:
                steps = min(FANTASY_STEPS, getattr(model, "gibbs_steps", FANTASY_STEPS))
                h = layer.dream(FANTASIES, steps, torch.Generator().manual_seed(0))  # (FANTASIES, H)
            shown["fantasies"] = mosaic(model.down(h, self.level + 1))
        return shown
