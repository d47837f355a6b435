"""The section `sequences` of scripts/benchmark.py: language models in training, and what they write.

    python scripts/benchmark.py only=sequences

Training: characters a second of `model=lstm data=python_docs` at its defaults (32 rows of 64 characters, Adam, clipped
gradients, a carried state, logging to TensorBoard) against a bare loop over torch.nn.Embedding, LSTM and Linear with
the same optimizer, clipping and carried state. The two take turns within one run, some steps each.

Writing: characters a second of a trained model's `Writer`, one text on one thread, against a bare loop over the same
module, with oneDNN or without, whichever is faster (`against`).

Lengths: sequences a second, forward and backward, of `zoo.layers.real_steps` against the same layer over packed
sequences of half the longest length to all of it.

On a CPU a second is one of this process's own (all its threads together), so that other programs matter less.
"""

import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from zoo.build import build
from zoo.callbacks.checkpointing import RunCheckpoint
from zoo.decoding import without_onednn
from zoo.layers.real_steps import over_real_steps
from zoo.models.lstm import LSTM
from zoo.run import configure
from zoo.tasks.language_modeling import detached
from zoo.trained.generate import Writer

ROWS, WINDOW = 32, 64
SIZES = ((1, 128), (2, 256))  # layers and units of each
Clock = Callable[[], float]  # seconds
TURNS = 4  # in a round
LENGTH = 1000  # characters that are written at a time
BATCHES = ((25, 64), (200, 16), (700, 8))  # steps of the longest sequence, and how many there are


class Bare(nn.Module):
    """What a user would write by hand."""

    def __init__(self, vocab_size: int, layers: int, size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, 128)
        self.lstm = nn.LSTM(128, size, layers, batch_first=True)
        self.output = nn.Linear(size, vocab_size)

    def forward(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        outputs, state = self.lstm(self.embedding(tokens), state)  # (B, T, H)
        return self.output(outputs), state  # (B, T, V)


class BareLoop:
    """Truncated backpropagation through time in a dozen lines."""

    def __init__(self, tokens: Tensor, vocab_size: int, layers: int, size: int, device: torch.device) -> None:
        self.rows = tokens[: len(tokens) // ROWS * ROWS].view(ROWS, -1).long()  # (B, L)
        self.model = Bare(vocab_size, layers, size).to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, fused=True)
        self.begin, self.state, self.device = 0, None, device

    def steps(self, number: int) -> None:
        for _ in range(number):
            if self.begin + WINDOW >= self.rows.shape[1]:
                self.begin, self.state = 0, None
            window = self.rows[:, self.begin : self.begin + WINDOW + 1].to(self.device)  # (B, T + 1)
            self.begin += WINDOW
            logits, state = self.model(window[:, :-1], self.state)  # (B, T, V)
            self.state = detached(state, self.device)
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()


class TakesTurns(Callback):
    """After so many of our steps, as many of the bare loop; `pairs` are the characters a second of both.

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
        self.bare.steps(self.length)
        theirs = self.clock() - start
        if batch_idx >= self.length:
            characters = self.length * ROWS * WINDOW
            self.pairs.append((characters / ours, characters / theirs))
        self.start = self.clock()


def training(layers: int, size: int, turns: int, length: int, device: str, clock: Clock) -> Any:
    """Characters a second of both sides, in turns of so many steps."""
    with tempfile.TemporaryDirectory() as folder:
        cfg = configure(
            "model=lstm", "data=python_docs", f"model.num_layers={layers}", f"model.hidden_size={size}", "test=false",
            f"data.batch_size={ROWS}", f"data.window={WINDOW}", "trainer=auto", f"trainer.accelerator={device}",
            "trainer.max_epochs=1", "trainer.num_threads=1", run_dir=folder,
        )  # fmt: skip
        run = build(cfg)
        loaded: Any = run.data.prepare()
        text, vocab_size = loaded.parts["train"], loaded.facts["vocab_size"]
        needed = (turns + 1) * length * ROWS * WINDOW + 1
        text.tokens = text.tokens.repeat(-(-needed // len(text.tokens)))[:needed]
        del loaded.parts["val"], loaded.parts["test"]
        target = torch.device("cuda" if device == "gpu" else "cpu")
        both = TakesTurns(BareLoop(text.tokens, vocab_size, layers, size, target), length, clock)
        run.trainer.callbacks = [c for c in run.trainer.callbacks if not isinstance(c, RunCheckpoint)] + [both]
        run.fit()
        run.close({})
    return both.pairs


def writing(layers: int, size: int, rounds: int, ratios: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    data = build(configure("model=lstm", "data=python_docs", run_dir="unused")).data
    loaded: Any = data.prepare()
    tokenizer: Any = data.tokenizer
    torch.manual_seed(0)
    model = LSTM(
        vocab_size=loaded.facts["vocab_size"], num_outputs=loaded.facts["vocab_size"], head="next_step",
        num_layers=layers, hidden_size=size,
    ).eval()  # fmt: skip
    writer = Writer(model, tokenizer, WINDOW)
    prompt = writer.read("The ")

    def ours() -> float:
        start = time.process_time()
        text = writer.write(prompt, length=LENGTH)[0]
        assert len(text) == LENGTH
        return LENGTH / (time.process_time() - start)

    def bare(backend: Callable[[], Any]) -> float:
        start, state, tokens, found = time.process_time(), None, torch.tensor([prompt.tokens]), []
        with torch.inference_mode(), backend():
            for _ in range(LENGTH):
                logits, state = model(tokens, state=state)  # (1, T, V)
                tokens = torch.multinomial((logits[:, -1] / 0.8).softmax(1), 1)  # (1, 1)
                found.append(int(tokens))
        tokenizer.decode(found)
        return LENGTH / (time.process_time() - start)

    ways: dict[str, Callable[[], Any]] = {"with oneDNN": nullcontext, "without oneDNN": without_onednn}
    ours()
    first = {way: bare(backend) for way, backend in ways.items()}
    fastest = max(first, key=first.__getitem__)
    found = ratios(ours, lambda: bare(ways[fastest]), rounds)
    return found | {"unit": "characters a second", "against": fastest, "ways": first}


def lengths(cell: type[nn.RNNBase], steps: int, batch: int, rounds: int, ratios: Callable[..., Any]) -> dict[str, Any]:
    torch.manual_seed(0)
    layer, x, real = (
        cell(128, 256, batch_first=True),
        torch.randn(batch, steps, 128),
        torch.randint(1, steps // 2, (batch,)),
    )
    real = real + steps - real.max()

    def rate(outputs: Callable[[], Tensor]) -> float:
        start = time.process_time()
        outputs().sum().backward()
        return batch / (time.process_time() - start)

    def packed() -> Tensor:
        answer, _ = layer(pack_padded_sequence(x, real, batch_first=True, enforce_sorted=False))
        return pad_packed_sequence(answer, batch_first=True, total_length=steps)[0]

    ours, theirs = (lambda: rate(lambda: over_real_steps(layer, x, real)[0])), (lambda: rate(packed))
    ours(), theirs()
    return ratios(ours, theirs, rounds) | {"unit": "sequences a second"}


def sequences(
    ratios: Callable[..., Any], medians: Callable[..., Any], synchronize: Callable[..., None], rounds: int, steps: int,
    device: str,
) -> dict[str, Any]:  # fmt: skip
    """Characters a second, in training (on the device) and in writing (on a CPU).

    Args:
        ratios, medians, synchronize: of scripts/benchmark.py.
    """

    def clock() -> float:
        if device == "cpu":
            return time.process_time()
        synchronize(device)
        return time.perf_counter()

    torch.set_num_threads(1)
    figures: dict[str, Any] = {}
    for layers, size in SIZES:
        number = steps if layers == 1 else steps // 4
        length = max(1, number // (TURNS * rounds))
        pairs = training(layers, size, TURNS * rounds, length, device, clock)
        figures[f"training {layers}x{size}"] = medians(pairs) | {"unit": "characters a second", "steps": length}
    layers, size = SIZES[-1]
    figures[f"writing {layers}x{size}"] = writing(layers, size, rounds, ratios)
    for cell in (nn.RNN, nn.GRU, nn.LSTM):
        for longest, batch in BATCHES:
            figures[f"lengths {cell.__name__} {batch}x{longest}"] = lengths(cell, longest, batch, rounds, ratios)
    return figures
