"""Sequences that become other sequences: translation, and all that is like it, from summaries to captions of images.

    loss = -1/N sum_t sum_v q_tv log p(v | y_1 .. y_(t-1), x)     q: the true token, smoothed over the vocabulary
    nll  = -1/N sum_t log p(y_t | y_1 .. y_(t-1), x)              perplexity = e^nll

N counts target tokens, `<eos>` among them, whatever batches they come in: means, accumulated batches and processes are
weighted by tokens. Both terms read the true target; what the model writes by itself is translated, turned into text and
compared with the references: BLEU, chrF (0 to 100, `zoo.metrics.texts`) and the share of exact matches (0 to 1).

Teacher forcing below 1 is scheduled sampling at a constant rate (Bengio, Vinyals, Jaitly, Shazeer, 2015, arXiv
1506.03099): so often does the decoder read the true token in training, and else its own.

Axes: B batch, S source steps, T target steps, H heads, V vocabulary
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zoo.batches import PairBatch
from zoo.decoding import answers, looked_at
from zoo.errors import UserError, suggest
from zoo.losses.sequences import mean_over_steps, token_cross_entropy
from zoo.metrics.texts import bleu, chrf, exact_match
from zoo.pictures.attention import of_layers, over_image
from zoo.tasks.base import Task
from zoo.tasks.language_modeling import LARGEST, as_code, is_best
from zoo.text import BOS_NUMBER, EOS_NUMBER, NEVER_WRITTEN, pieces, text_of, words

MONITORS = {"loss": "min", "nll": "min", "accuracy": "max", "bleu": "max", "chrf": "max", "exact_match": "max"}
SHOWN, PICTURED = 8, 2  # translations as text, and those of them with a picture
METHODS = ("encode", "decode", "start", "step")


def some_rows(batch: PairBatch, rows: Tensor) -> PairBatch:
    """A few pairs of a batch, by their rows, padded to the longest of them."""
    parts: Any = (None if part is None else part[rows] for part in batch)
    src, mask, tgt_in, tgt_out, index = parts
    if mask is not None:
        longest = int(mask.sum(1).max())
        src, mask = src[:, :longest], mask[:, :longest]
    steps = int((tgt_out != 0).sum(1).max())
    return PairBatch(src, mask, tgt_in[:, :steps], tgt_out[:, :steps], index)


class Translation(Task):
    """A source becomes a target, one token after another.

    Args:
        model: has encode, decode, start and step, and perhaps attention and max_len; called with a batch's inputs it
            gives logits (B, T, V).
        optimizer, scheduler: see `Task`.
        label_smoothing: share of each target that is spread over the vocabulary, in [0, 1).
        teacher_forcing: how often the decoder reads the true token in training, from 0 to 1.
        beams, length_penalty: of the search in the test; validation takes the likeliest token each time.
        max_steps: tokens that are written of an image. A text gets twice the tokens of its source, and ten more.
        lowercase: comparisons of texts ignore case.
        bleu: whether BLEU and chrF are measured, beside exact matches.
        translate_val: how many sentences of the validation part are translated after each epoch, its first; null: all.
        monitor: what chooses the best epoch: "loss", "nll", "accuracy", "bleu", "chrf" or "exact_match".
    """

    batches = ("PairBatch",)
    shows_every_epoch = True

    @classmethod
    def compared_by(cls, config: Mapping[str, Any]) -> tuple[str, str]:
        monitor = config["task"].get("monitor", "loss")
        return f"val/{monitor}", MONITORS.get(monitor, "min")

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[..., Any],
        scheduler: Callable[..., Any] | None = None,
        *,
        label_smoothing: float = 0.0,
        teacher_forcing: float = 1.0,
        beams: int = 4,
        length_penalty: float = 0.6,
        max_steps: int = 50,
        lowercase: bool = True,
        bleu: bool = True,
        translate_val: int | None = None,
        monitor: str = "loss",
    ) -> None:
        super().__init__(model, optimizer, scheduler)
        if monitor not in MONITORS:
            raise UserError(f"There is no task.monitor={monitor}{suggest(monitor, MONITORS)}")
        needs_texts = monitor in ("bleu", "chrf", "exact_match")
        if needs_texts and (translate_val == 0 or (monitor != "exact_match" and not bleu)):
            raise UserError(
                f"task.monitor={monitor} needs translations of the validation part; leave them switched on."
            )
        if not 0 <= teacher_forcing <= 1:
            raise UserError(f"task.teacher_forcing={teacher_forcing} must be a number from 0 to 1.")
        least = {"beams": (beams, 1), "max_steps": (max_steps, 1), "length_penalty": (length_penalty, 0)}
        for name, (value, bound) in (least | {"translate_val": (translate_val or 0, 0)}).items():
            if value < bound:
                raise UserError(f"task.{name}={value} must be a number from {bound} on.")
        self.monitor, self.mode = f"val/{monitor}", MONITORS[monitor]
        self.label_smoothing, self.teacher_forcing = label_smoothing, teacher_forcing
        self.beams, self.length_penalty, self.max_steps = beams, length_penalty, max_steps
        self.lowercase, self.with_bleu, self.translate_val = lowercase, bleu, translate_val
        self.texts: dict[str, dict[int, str]] = {"val": {}, "test": {}}  # {stage: {index: what was written}}
        self.signatures: dict[str, str] = {}  # of sacrebleu

    def check(self, batch: Any) -> None:
        super().check(batch)
        missing = [name for name in METHODS if not hasattr(self.model, name)]
        if missing:
            raise UserError(
                f"{type(self.model).__name__} has no {' and no '.join(missing)}, and this data goes from sequence to "
                "sequence; use model=seq2seq or model=transformer."
            )

    def count_items(self, batch: PairBatch) -> int:
        return int(batch.tgt_mask.sum())

    def losses(self, batch: PairBatch) -> dict[str, Tensor]:
        if len(batch.src) == 0:  # what is left of a part, for more processes than it has pairs
            return {name: torch.zeros((), device=batch.tgt_out.device) for name in ("loss", "nll", "accuracy")}
        if self.training and self.teacher_forcing < 1:
            model: Any = self.model
            memory = model.encode(batch.src, batch.src_mask)
            logits = model.decode(batch.tgt_in, memory, batch.src_mask, self.teacher_forcing)  # (B, T, V)
        else:
            logits = self.model(*batch.inputs)  # (B, T, V)
        loss, nll = token_cross_entropy(logits, batch.tgt_out, label_smoothing=self.label_smoothing)
        right = is_best(logits.detach().flatten(0, 1), batch.tgt_out.flatten()).view_as(batch.tgt_out)  # (B, T)
        return {"loss": loss, "nll": nll, "accuracy": mean_over_steps(right.to(loss.dtype), batch.tgt_mask)}

    def derived(self, means: dict[str, float]) -> dict[str, float]:
        if "nll" not in means:
            return {}
        return {"perplexity": math.inf if means["nll"] > LARGEST else math.exp(means["nll"])}

    # ---- what the model writes

    @property
    def data(self) -> Any:
        """The data module, if it knows texts; None else."""
        data = getattr(self.trainer, "datamodule", None)
        return data if hasattr(data, "tgt_tokenizer") and hasattr(data, "references") else None

    def translate(self, batch: PairBatch, beams: int = 1) -> list[list[int]]:
        """What the model writes of each source; see `zoo.decoding.answers`."""
        search: dict[str, Any] = {"beams": beams, "length_penalty": self.length_penalty, "max_steps": self.max_steps}
        return answers(
            self.model, batch.src, batch.src_mask, bos=BOS_NUMBER, eos=EOS_NUMBER, banned=NEVER_WRITTEN, **search
        )

    def start(self, stage: str) -> None:
        super().start(stage)
        self.texts[stage] = {}

    def translates(self, stage: str) -> bool:
        """Whether anything of that stage is translated; the same in all processes."""
        return self.data is not None and not (stage == "val" and self.translate_val == 0)

    def evaluate(self, stage: str, batch: PairBatch) -> None:
        super().evaluate(stage, batch)
        if batch.index is None or not self.translates(stage):
            return
        most = self.translate_val if stage == "val" else None
        chosen = (batch.index < math.inf if most is None else batch.index < most).nonzero().squeeze(1)
        if len(chosen) == 0:
            return
        found = self.translate(some_rows(batch, chosen), 1 if stage == "val" else self.beams)
        texts = [text_of(self.data.tgt_tokenizer, row) for row in found]
        self.texts[stage] |= zip(batch.index[chosen].tolist(), texts, strict=True)

    def whole_set_metrics(self, stage: str) -> dict[str, float]:
        """Texts of all processes against their references; every process must call it."""
        if not self.translates(stage):
            return {}
        texts = everywhere(self.texts[stage])
        references = self.data.references(stage)
        order = sorted(texts)
        if not order:
            return {}
        found, wanted = [texts[i] for i in order], [references[i] for i in order]
        metrics = {"exact_match": exact_match(found, wanted, lowercase=self.lowercase)}
        for name, score in {"bleu": bleu, "chrf": chrf}.items() if self.with_bleu else ():
            metrics[name], self.signatures[name] = score(found, wanted, lowercase=self.lowercase)
        if self.with_bleu and stage == "test":
            cut = [[" ".join(words(text)) for text in texts] for texts in (found, wanted)]
            metrics["bleu_words"], self.signatures["bleu_words"] = bleu(*cut, tokenize="none")
        return metrics

    def findings(self) -> dict[str, str]:
        """How the scores of texts were computed, in sacrebleu's words."""
        return {f"{name}_signature": signature for name, signature in self.signatures.items()}

    # ---- what is worth seeing

    def show(self, batch: PairBatch) -> dict[str, Any]:
        """A few translations as text, and what the model looked at while it wrote the first of them."""
        if self.data is None:
            return {}
        few = some_rows(batch, torch.arange(min(SHOWN, len(batch.src))))
        try:
            found = self.translate(few, self.beams if getattr(self.trainer, "testing", False) else 1)
        except UserError as error:  # a model that diverged; what is shown must not end a run
            return {"translations": str(error)}
        shown: dict[str, Any] = {"translations": self.page(few, found)}
        for number in range(min(PICTURED, len(found))):
            shown |= self.attention_pictures(some_rows(few, torch.tensor([number])), found[number], number + 1)
        return shown

    def page(self, batch: PairBatch, found: list[list[int]]) -> str:
        """Source, reference and translation of each pair, as markdown."""
        blocks = []
        for number, row in enumerate(found):
            lines = {"source": self.source_text(batch, number)} if self.data.src_tokenizer is not None else {}
            lines["reference"] = text_of(self.data.tgt_tokenizer, batch.tgt_out[number].tolist())
            lines["ours"] = text_of(self.data.tgt_tokenizer, row)
            blocks.append(as_code("\n".join(f"{name:<11}{text.replace(chr(10), '⏎')}" for name, text in lines.items())))
        notes = [f"{name}: {signature}" for name, signature in self.signatures.items()]
        return "\n\n---\n\n".join([*blocks, *([as_code("\n".join(notes))] if notes else [])])

    def source_numbers(self, batch: PairBatch, number: int) -> list[int]:
        return [n for n in batch.src[number].tolist() if n]

    def source_text(self, batch: PairBatch, number: int) -> str:
        return text_of(self.data.src_tokenizer, self.source_numbers(batch, number))

    def attention_pictures(self, batch: PairBatch, row: list[int], number: int) -> dict[str, Any]:
        """Of a batch of one pair and its translation; {} for a model without attention."""
        layers = looked_at(self.model, batch.src, batch.src_mask, row, bos=BOS_NUMBER)  # {name: (H, T, S)}
        if not layers:
            return {}
        targets = pieces(self.data.tgt_tokenizer, row)
        if self.data.src_tokenizer is None:
            mean = torch.stack([weights.mean(0) for weights in layers.values()]).mean(0)  # (T, S)
            return {f"attention_{number}": over_image(batch.src[0], mean, targets)}
        sources = pieces(self.data.src_tokenizer, self.source_numbers(batch, 0))
        figures = of_layers(layers, sources, targets)
        found = {f"attention_{number}": figures["attention"]}
        return found | ({"attention_heads": figures["heads"]} if "heads" in figures and number == 1 else {})


def everywhere(own: dict[int, str]) -> dict[int, str]:
    """What all processes have; every process must call it."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return own
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, own)
    return {index: text for part in parts for index, text in part.items()}
