"""The section `attention` of scripts/benchmark.py: GPT in training, what a Transformer writes, memory against length.

    python scripts/benchmark.py only=attention

Training: tokens a second of `model=gpt data=python_docs` (12 windows of 64 characters, AdamW, clipped gradients,
logging to TensorBoard) against a bare loop over the same network, and over a GPT-2 of `transformers` of the same size.
All take turns within one run, some steps each.

Writing: sentences a second of a Transformer of random weights (`zoo.decoding.answers`) against `generate` of a Marian
of `transformers` with the same weights, so that both write the same texts (`same_texts`), to the same ends:
    alike    64 sources and texts of 14 tokens
    mixed    64 of 7 to 29 tokens, spread as the captions of Multi30k are (mean 15, standard deviation 5)
    list     256 such sources with texts a little longer or shorter, 64 at a time: ours by length, as
             scripts/translate.py does it; theirs as they come, as a pipeline of `transformers` does it

Memory: MiB that the fused kernel takes, forward and backward, for twice the tokens against once, and for some tokens
against a program that has all weights.

On a CPU a second is one of this process's own (all its threads together), so that other programs matter less. What
needs `transformers` is left out, and that is said, where it is not installed.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from zoo.build import build
from zoo.callbacks.checkpointing import RunCheckpoint
from zoo.decoding import answers
from zoo.models.gpt import GPT
from zoo.models.transformer import Transformer
from zoo.run import configure

Clock = Callable[[], float]  # seconds
ROWS, WINDOW, WIDTH, LAYERS, HEADS = 12, 64, 128, 4, 4  # of the GPT: nanoGPT's for a CPU
TURNS = 4  # in a round
VOCABULARY, BATCH, BOS = 8000, 64, 2
SIZES: dict[str, Any] = {"d_model": 256, "num_heads": 8, "d_ff": 512, "num_layers": 3}  # of the Transformer
LENGTH = 2048  # tokens whose memory is taken

MEMORY_SCRIPT = """
import sys
sys.path.insert(0, "ROOT")
import torch
from zoo.layers.attention import attend, attention_weights
way, length = ARGUMENTS
torch.set_num_threads(1)
def status(name):
    return [int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith(name)][0]
def both(length):
    q, k, v = (torch.ones(1, 8, length, 64, requires_grad=True) for _ in range(3))
    found = attend(q, k, v) if way == "fused" else attention_weights(q, k) @ v
    found.sum().backward()
both(16)
before = status("VmRSS")
both(int(length))
print("peak", status("VmHWM") - before)
"""


class BareLoop:
    """What a user would write by hand: windows drawn at random, AdamW with one kernel, clipped gradients.

    Args:
        model: tokens (B, T) -> logits (B, T, V).
    """

    def __init__(self, model: nn.Module, logits: Callable[[Any], Tensor], tokens: Tensor, device: torch.device) -> None:
        self.model, self.logits, self.tokens, self.device = model.to(device), logits, tokens.long(), device
        matrices = [p for p in model.parameters() if p.ndim > 1]
        others = [p for p in model.parameters() if p.ndim < 2]
        groups = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, fused=True)

    def steps(self, number: int) -> None:
        for _ in range(number):
            begins = torch.randint(len(self.tokens) - WINDOW, (ROWS, 1))
            window = self.tokens[begins + torch.arange(WINDOW + 1)].to(self.device)  # (B, T + 1)
            logits = self.logits(self.model(window[:, :-1]))  # (B, T, V)
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()


class TakesTurns(Callback):
    """After so many of our steps, as many of each other loop; `pairs[name]` are the tokens a second of ours and theirs.

    The first turn of each side is warming up.
    """

    lean = True

    def __init__(self, others: dict[str, BareLoop], length: int, clock: Clock) -> None:
        self.others, self.length, self.clock = others, length, clock
        self.pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in others}
        self.start = 0.0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (batch_idx + 1) % self.length:
            return
        ours = self.clock() - self.start
        for name, loop in self.others.items():
            start = self.clock()
            loop.steps(self.length)
            theirs = self.clock() - start
            if batch_idx >= self.length:
                tokens = self.length * ROWS * WINDOW
                self.pairs[name].append((tokens / ours, tokens / theirs))
        self.start = self.clock()


def loops(tokens: Tensor, vocab_size: int, device: torch.device) -> dict[str, BareLoop]:
    """What our training is compared with."""
    torch.manual_seed(0)
    same = GPT(vocab_size=vocab_size, max_len=WINDOW, d_model=WIDTH, num_heads=HEADS, num_layers=LAYERS)
    found = {"bare loop": BareLoop(same, lambda answer: answer[0], tokens, device)}
    if has_transformers():
        from transformers import GPT2Config, GPT2LMHeadModel

        sizes = {"n_positions": WINDOW, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS}
        dropouts = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        ends = {"bos_token_id": 0, "eos_token_id": 0, "use_cache": False}
        config = GPT2Config(vocab_size=vocab_size, activation_function="gelu", **sizes, **dropouts, **ends)
        found["transformers"] = BareLoop(GPT2LMHeadModel(config), lambda answer: answer.logits, tokens, device)
    return found


def training(turns: int, length: int, device: str, clock: Clock) -> dict[str, list[tuple[float, float]]]:
    """Tokens a second of ours and of each other loop, in turns of so many steps."""
    with tempfile.TemporaryDirectory() as folder:
        cfg = configure(
            "model=gpt", "data=python_docs", f"model.d_model={WIDTH}", f"model.num_layers={LAYERS}",
            f"model.num_heads={HEADS}", f"data.batch_size={ROWS}", f"data.window={WINDOW}", "test=false",
            "trainer=auto", f"trainer.accelerator={device}", "trainer.max_epochs=1", "trainer.num_threads=1",
            run_dir=folder,
        )  # fmt: skip
        run = build(cfg)
        loaded: Any = run.data.prepare()
        text, vocab_size = loaded.parts["train"], loaded.facts["vocab_size"]
        needed = (turns + 1) * length * ROWS * WINDOW + 1
        text.tokens = text.tokens.repeat(-(-needed // len(text.tokens)))[:needed]
        del loaded.parts["val"], loaded.parts["test"]
        target = torch.device("cuda" if device == "gpu" else "cpu")
        turns_of_all = TakesTurns(loops(text.tokens, vocab_size, target), length, clock)
        run.trainer.callbacks = [c for c in run.trainer.callbacks if not isinstance(c, RunCheckpoint)] + [turns_of_all]
        run.fit()
        run.close({})
    return turns_of_all.pairs


# ---- writing


def lengths_like_captions(number: int) -> Tensor:
    """(N,) lengths, shuffled: the quantiles of a log-normal distribution of median 14."""
    places = (torch.arange(number) + 0.5) / number
    found = (14 * torch.exp(0.3 * torch.special.ndtri(places))).round().long()
    return found[torch.randperm(number, generator=torch.Generator().manual_seed(0))]


def sources(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens (N, S) of those lengths, and their mask."""
    mask = torch.arange(int(lengths.max())) < lengths.unsqueeze(1)
    tokens = torch.randint(4, VOCABULARY, mask.shape, generator=torch.Generator().manual_seed(0))
    return tokens.masked_fill(~mask, 0), mask


def transformer() -> Transformer:
    torch.manual_seed(0)
    sizes = {"src_vocab_size": VOCABULARY, "tgt_vocab_size": VOCABULARY, "max_len": 64} | SIZES
    return Transformer(**sizes, tied="all", positions="learned").eval()


def as_marian(name: str) -> str:
    """Our name of a tensor -> that of a Marian."""
    last = "norm2" if name.startswith("encoder") else "norm3"
    pairs = [("norm1", "self_attn_layer_norm"), (last, "final_layer_norm"), ("norm2", "encoder_attn_layer_norm"),
             ("coder.", "coder.layers."), ("cross_attn", "encoder_attn"), (".out.", ".out_proj."),
             ("feed_forward.linear", "fc"), ("src_positions", "encoder.embed_positions"),
             ("tgt_positions", "decoder.embed_positions"), ("src_embedding", "shared")]  # fmt: skip
    for ours, theirs in pairs:
        name = name.replace(ours, theirs)
    return f"model.{name}"


def marian_of(ours: Transformer) -> Any:
    """A Marian of `transformers` that computes the same."""
    from transformers import MarianConfig, MarianMTModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    each = {"layers": SIZES["num_layers"], "attention_heads": SIZES["num_heads"], "ffn_dim": SIZES["d_ff"]}
    sizes = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in each.items()}
    tokens = {"pad_token_id": 0, "decoder_start_token_id": BOS, "eos_token_id": None, "forced_eos_token_id": None}
    theirs = MarianMTModel(MarianConfig(
        vocab_size=VOCABULARY, d_model=SIZES["d_model"], max_position_embeddings=ours.max_len, scale_embedding=True,
        activation_function="relu", **sizes, **tokens,
    )).eval()  # fmt: skip
    theirs.generation_config.eos_token_id = None
    weights: dict[str, Tensor] = {}
    for name, value in ours.state_dict().items():
        if ".qkv." in name:
            weights |= {as_marian(name.replace("qkv", f"{one}_proj")): part
                        for one, part in zip("qkv", value.chunk(3), strict=True)}  # fmt: skip
        elif name not in ("output.weight", "tgt_embedding.weight"):  # which are the source's
            weights[as_marian(name)] = value
    left = theirs.load_state_dict(weights, strict=False)
    assert not left.unexpected_keys
    return theirs


def ending(limits: Tensor) -> Any:
    """Tells `generate` where each text ends."""
    from transformers import StoppingCriteria, StoppingCriteriaList

    class Ends(StoppingCriteria):
        eos_token_id = None  # it has this attribute so that what comes after an end is padding

        def __call__(self, input_ids: Tensor, scores: Any, **others: Any) -> Tensor:
            return input_ids.shape[1] - 1 >= limits.repeat_interleave(len(input_ids) // len(limits))

    return StoppingCriteriaList([Ends()])


Writer = Callable[[Tensor, Tensor, Tensor, int], list[list[int]]]  # sources, mask, lengths of texts, beams -> texts


def writers(device: str) -> tuple[Writer, Writer]:
    """Ours and theirs."""
    model = transformer()
    marian = marian_of(model)
    target = torch.device("cuda" if device == "gpu" else "cpu")
    model.to(target), marian.to(target)

    def ours(src: Tensor, mask: Tensor, limits: Tensor, beams: int) -> list[list[int]]:
        src, mask, limits = src.to(target), mask.to(target), limits.to(target)
        return answers(model, src, mask, bos=BOS, eos=-1, beams=beams, length_penalty=1.0, steps=limits)

    def theirs(src: Tensor, mask: Tensor, limits: Tensor, beams: int) -> list[list[int]]:
        src, mask, ends = src.to(target), mask.long().to(target), ending(limits.to(target))
        most = int(limits.max())
        found = marian.generate(
            src, attention_mask=mask, num_beams=beams, max_new_tokens=most, do_sample=False, stopping_criteria=ends
        )  # (B, 1 + N)
        return [row[1 : n + 1] for row, n in zip(found.tolist(), limits.tolist(), strict=True)]

    return ours, theirs


def in_batches(write: Writer, lengths: Tensor, limits: Tensor, beams: int, by_length: bool) -> list[list[int]]:
    """Texts of sources in their order, written some at a time."""
    src, mask = sources(lengths)
    found: dict[int, list[int]] = {}
    for rows in (lengths.argsort(stable=True) if by_length else torch.arange(len(lengths))).split(BATCH):
        most = int(lengths[rows].max())
        texts = write(src[rows, :most], mask[rows, :most], limits[rows], beams)
        found |= zip(rows.tolist(), texts, strict=True)
    return [found[i] for i in range(len(lengths))]


def writing(rounds: int, ratios: Callable[..., dict[str, Any]], device: str, clock: Clock) -> dict[str, Any]:
    """Sentences a second of both sides."""
    mixed, alike, many = lengths_like_captions(BATCH), torch.full((BATCH,), 14), lengths_like_captions(4 * BATCH)
    noise = torch.randn(len(many), generator=torch.Generator().manual_seed(1))
    cases = {"alike": (alike, alike), "mixed": (mixed, mixed), "list": (many, (many * torch.exp(0.13 * noise)).long())}
    writer, other = writers(device)
    figures: dict[str, Any] = {}
    for beams in (1, 5):
        for name, case in cases.items():
            ours = partial(in_batches, writer, *case, beams, by_length=True)
            theirs = partial(in_batches, other, *case, beams, by_length=False)
            # Rounding may decide between two tokens, on this machine or that.
            same = sum(a == b for a, b in zip(ours(), theirs(), strict=True)) / len(case[0])
            assert same > 0.9, "they do not write the same texts"
            both = (partial(rate, write, len(case[0]), clock) for write in (ours, theirs))
            kind = "greedy" if beams == 1 else f"{beams} beams"
            figures[f"{kind}, {name}"] = ratios(*both, rounds) | {"unit": "sentences a second", "same_texts": same}
    return figures


def rate(write: Callable[[], Any], number: int, clock: Clock) -> float:
    start = clock()
    write()
    return number / (clock() - start)


# ---- memory


def memory(way: str, length: int, device: str, child: Callable[..., dict[str, float]]) -> float:
    """MiB that attention of 8 heads of 64 features takes beyond what was there, forward and backward."""
    if device == "cpu":  # in a process of its own, which has not been larger before
        return child(MEMORY_SCRIPT, 1, way, str(length))["peak"]
    from zoo.layers.attention import attend, attention_weights

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    q, k, v = (torch.ones(1, 8, length, 64, device="cuda", requires_grad=True) for _ in range(3))
    (attend(q, k, v) if way == "fused" else attention_weights(q, k) @ v).sum().backward()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def has_transformers() -> bool:
    return find_spec("transformers") is not None


def attention(
    ratios: Callable[..., Any], medians: Callable[..., Any], synchronize: Callable[..., None],
    child: Callable[..., dict[str, float]], rounds: int, steps: int, device: str,
) -> dict[str, Any]:  # fmt: skip
    """Tokens a second in training, sentences a second in writing, MiB of memory.

    Args:
        ratios, medians, synchronize, child: of scripts/benchmark.py.
    """

    def clock() -> float:
        if device == "cpu":
            return time.process_time()
        synchronize(device)
        return time.perf_counter()

    torch.set_num_threads(1)
    if not has_transformers():
        print("attention: transformers is not installed, so its GPT-2 and its Marian are left out", flush=True)
    length = max(1, steps // (TURNS * rounds))
    pairs = training(TURNS * rounds, length, device, clock)
    unit = {"unit": "tokens a second", "steps": length}
    figures = {f"gpt, {name}": medians(found) | unit for name, found in pairs.items()}
    if has_transformers():
        figures |= writing(rounds, ratios, device, clock)
    fused, explicit = (partial(memory, way, device=device, child=child) for way in ("fused", "explicit"))
    cases = {
        f"{2 * LENGTH} to {LENGTH} tokens": (lambda: fused(2 * LENGTH), lambda: fused(LENGTH)),
        "fused to explicit": (lambda: fused(LENGTH), lambda: explicit(LENGTH)),
    }
    return figures | {name: ratios(*both, min(rounds, 3)) | {"unit": "MiB"} for name, both in cases.items()}
