"""The section `generative` of scripts/benchmark.py: steps of Boltzmann machine, GAN and VAE.

    python scripts/benchmark.py only=generative

Microseconds a step of `model=rbm` (784 pixels, 500 hidden units, CD-1, momentum), `model=gan` and `model=vae` at their
defaults on 784 pixels, batches of 100, logging to TensorBoard, against bare loops over the same networks, optimizers
and images. A bare loop draws its noise from torch's global generator and shows its loss as a number, as one written by
hand would. The two take turns within one run, some steps each.

On a CPU a second is one of this process's own (all its threads together), so that other programs matter less.
"""

import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.build import build
from zoo.callbacks.checkpointing import RunCheckpoint
from zoo.run import configure

BATCH, PIXELS = 100, 784
TURNS = 4  # in a round
Clock = Callable[[], float]  # seconds
TYPED = {
    "rbm": ("model=rbm", "model.hidden_features=500", "optimizer.momentum=0.5"),
    "gan": ("model=gan",),
    "vae": ("model=vae",),
}


class BareBoltzmann:
    """CD-1 by hand: a Gibbs step from the data, and the difference of two means."""

    def __init__(self, model: Any) -> None:
        layer = model.layers[0]
        self.weight, self.b, self.c = layer.weight.data.clone(), layer.visible_bias.data, layer.hidden_bias.data
        self.parameters = [self.weight, self.b, self.c]
        self.optimizer = torch.optim.SGD(self.parameters, lr=0.01, momentum=0.5)

    @torch.no_grad()
    def __call__(self, x: Tensor) -> float:
        v, number = x.flatten(1), len(x)  # (B, V)
        hidden = (v @ self.weight + self.c).sigmoid()  # (B, H)
        h = (torch.rand_like(hidden) < hidden).to(v.dtype)
        logits = h @ self.weight.T + self.b  # (B, V)
        means = logits.sigmoid()
        made = (torch.rand_like(means) < means).to(v.dtype)
        hidden_made = (made @ self.weight + self.c).sigmoid()  # (B, H)
        self.weight.grad = (made.T @ hidden_made - v.T @ hidden) / number
        self.b.grad = (made - v).mean(0)
        self.c.grad = (hidden_made - hidden).mean(0)
        self.optimizer.step()
        return float(F.binary_cross_entropy_with_logits(logits, v, reduction="sum") / number)


class BareAdversaries:
    """Goodfellow et al. 2014, algorithm 1 with the non-saturating loss: one step of each network a batch."""

    def __init__(self, model: Any) -> None:
        self.model = model.train()
        nets = (model.generator, model.discriminator)
        self.optimizers = [torch.optim.Adam(net.parameters(), lr=0.001, fused=True) for net in nets]

    def __call__(self, x: Tensor) -> float:
        generator, discriminator, size = self.model.generator, self.model.discriminator, self.model.latent_size
        ours, theirs = self.optimizers
        with torch.no_grad():
            fake = generator(torch.randn(len(x), size, device=x.device))
        loss = F.softplus(-discriminator(x)).mean() + F.softplus(discriminator(fake)).mean()
        theirs.zero_grad()
        loss.backward()
        theirs.step()
        answer = discriminator(generator(torch.randn(len(x), size, device=x.device)))
        of_generator = F.softplus(-answer).mean()
        ours.zero_grad()
        of_generator.backward()
        ours.step()
        return float(loss.detach() + of_generator.detach())


class BareVAE:
    """Kingma and Welling 2014, one sample of the code."""

    def __init__(self, model: Any) -> None:
        self.model = model.train()
        self.optimizer = torch.optim.Adam(model.parameters(), lr=0.001, fused=True)

    def __call__(self, x: Tensor) -> float:
        mean, log_var = self.model.encode(x)  # (B, Z) each
        logits = self.model.decode(mean + (0.5 * log_var).exp() * torch.randn_like(mean))  # (B, C, H, W)
        said = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        loss = (said - 0.5 * (1 + log_var - mean**2 - log_var.exp()).sum()) / len(x)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


BARE = {"rbm": BareBoltzmann, "gan": BareAdversaries, "vae": BareVAE}


class BareLoop:
    """Batches in a random order, pixels in [0, 1], and a step for each."""

    def __init__(self, step: Callable[[Tensor], float], images: Tensor, device: torch.device) -> None:
        self.step, self.images, self.device = step, images, device
        self.order, self.begin, self.shown = torch.randperm(len(images)), 0, 0.0

    def steps(self, number: int) -> None:
        for _ in range(number):
            if self.begin + BATCH > len(self.order):
                self.order, self.begin = torch.randperm(len(self.images)), 0
            index = self.order[self.begin : self.begin + BATCH]
            self.begin += BATCH
            self.shown += self.step(self.images[index].to(self.device).to(torch.float32).mul_(1 / 255))


class TakesTurns(Callback):
    """After so many of our steps, as many of the bare loop; `pairs` are the microseconds a step of both.

    The first turn of each side is warming up.
    """

    lean = True

    def __init__(self, bare: BareLoop, length: int, clock: Clock) -> None:
        self.bare, self.length, self.clock = bare, length, clock
        self.pairs: list[tuple[float, float]] = []
        self.start = 0.0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (batch_idx + 1) % self.length:
            return
        ours = self.clock() - self.start
        start = self.clock()
        with torch.enable_grad():
            self.bare.steps(self.length)
        theirs = self.clock() - start
        if batch_idx >= self.length:
            self.pairs.append((ours / self.length * 1e6, theirs / self.length * 1e6))
        self.start = self.clock()


def training(name: str, turns: int, length: int, device: str, clock: Clock) -> list[tuple[float, float]]:
    """Microseconds a step of both sides, in turns of so many steps."""
    target = torch.device("cuda" if device == "gpu" else "cpu")
    generator = torch.Generator().manual_seed(0)
    number = (turns + 1) * length * BATCH
    images = torch.randint(0, 256, (number, 1, 28, 28), dtype=torch.uint8, generator=generator)
    with tempfile.TemporaryDirectory() as folder:
        cfg = configure(
            *TYPED[name], "data=digits", "data.image_size=28", f"data.batch_size={BATCH}", "test=false", "trainer=auto",
            f"trainer.accelerator={device}", "trainer.max_epochs=1", "trainer.num_threads=1", run_dir=folder,
        )  # fmt: skip
        run = build(cfg)
        parts = run.data.prepare().parts  # type: ignore[attr-defined]
        del parts["val"], parts["test"]
        parts["train"].tensors = (images, torch.zeros(number, dtype=torch.int64))
        same: nn.Module = build(configure(*TYPED[name], "data=digits", "data.image_size=28", run_dir=folder)).task.model
        both = TakesTurns(BareLoop(BARE[name](same.to(target)), images, target), length, clock)
        run.trainer.callbacks = [c for c in run.trainer.callbacks if not isinstance(c, RunCheckpoint)] + [both]
        run.fit()
        run.close({})
    return both.pairs


def generative(
    medians: Callable[..., Any], synchronize: Callable[..., None], rounds: int, steps: int, device: str
) -> Any:
    """Microseconds a step.

    Args:
        medians, synchronize: of scripts/benchmark.py.
    """

    def clock() -> float:
        if device == "cpu":
            return time.process_time()
        synchronize(device)
        return time.perf_counter()

    torch.set_num_threads(1)
    figures: dict[str, Any] = {}
    for name in TYPED:
        number = steps // 6 if name == "gan" else steps
        length = max(2, number // (TURNS * rounds))
        pairs = training(name, TURNS * rounds, length, device, clock)
        figures[name] = medians(pairs) | {"unit": "microseconds a step", "steps": length}
    return figures
