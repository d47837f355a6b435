"""What a trained model says of new pictures, table rows, texts and series; its checkpoint alone suffices.

    predictor = load("outputs/.../")
    for answer in predictor.answers("photos/"):
        print(answer.file, answer.ranked[0])

A checkpoint holds the configuration, the names of the classes, and how inputs were prepared. Inputs are read and
answered a chunk at a time, so that memory does not grow with their number.

Axes: B inputs in a chunk, K classes, labels or target columns, L past steps of a series, H steps ahead of it
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.checkpoint import build_model, find, read
from zoo.errors import UserError
from zoo.losses.supervised import LOSSES
from zoo.trained.inputs import READERS, TABLE_ENDINGS, Inputs, Place, Prepared, inputs_of_texts
from zoo.trained.purpose import misplaced, purpose


@dataclass(frozen=True)
class Answer:
    """What the model says of one input.

    Args:
        file, row: where the input came from; the row as in the file (the header of a table is row 1, a text is a line;
            of a forecast, where it will stand), None for a picture and a text that was typed.
        ranked: (class, probability or score), the best first. For several labels, or targets of a regression, all of
            them in the order of training: (label, probability or score), (target, value in its own units).
        because: where the answer comes from, for people; empty where nobody asked.
        explanation: the same as facts for a program.
    """

    file: str
    row: int | None
    ranked: list[tuple[str, float]]
    because: str = ""
    explanation: Mapping[str, Any] = field(default_factory=dict)


Explain = Callable[[list[Answer], Any], list[Answer]]  # answers to inputs (B, ...) -> the same with their reasons


@dataclass
class Predictor:
    """A trained model with what is needed to use it.

    Args:
        model: inputs -> (B, K), in evaluation mode.
        kind: "multiclass", "binary", "multilabel" or "regression".
        measure: what the numbers are: "probability", "score" or "value".
        names: of the K classes (2 for one logit), labels or target columns.
        preprocessing: of the checkpoint.
        data: settings of the data that it was trained on.
        device: where the model is.
        border: the probability or score above which one of two classes, or a label, holds.
    """

    model: nn.Module
    kind: str
    measure: str
    names: list[str]
    preprocessing: dict[str, Any]
    data: dict[str, Any]
    device: str = "cpu"
    border: float = 0.0

    def describe(self) -> str:
        """One line on what the numbers mean."""
        network = type(self.model).__name__
        if self.preprocessing["kind"] == "series":
            past, horizon = self.preprocessing["past"], self.preprocessing["horizon"]
            return (
                f"{network}: {', '.join(self.names)} of the {horizon} steps after the last, from {past}, in their own "
                "units."
            )
        if self.kind == "regression":
            return f"{network}: {', '.join(self.names)}, in the units of the training table."
        count = f"{len(self.names)} {'labels' if self.kind == 'multilabel' else 'classes'}"
        if self.measure == "score":
            return f"{network}: label and score, {count}; this model gives no probability."
        rule = {"multiclass": f"softmax over {count}", "binary": "sigmoid, two classes"}
        return f"{network}: label and probability ({rule.get(self.kind, f'a sigmoid for each of {count}')})."

    @torch.inference_mode()
    def measures(self, inputs: Prepared) -> Tensor:
        """-> (B, K): probabilities, scores, or values in the targets' own units; both classes of one logit."""
        given = (inputs,) if isinstance(inputs, Tensor) else inputs
        outputs = getattr(self.model, "scores", self.model)(*(x.to(self.device) for x in given)).cpu()
        series = self.preprocessing["kind"] == "series"
        if series:
            outputs = outputs.flatten(0, 1)  # (1, H, K) -> (H, K): a step is an answer
        if outputs.shape[1] != (1 if self.kind == "binary" else len(self.names)):
            raise UserError(f"The model gives {outputs.shape[1]} numbers an input, for {len(self.names)} names.")
        if self.kind == "regression":
            keys = ("mean", "std") if series else ("target_mean", "target_std")
            shift, spread = (self.preprocessing.get(key) for key in keys)
            return outputs if shift is None else outputs * torch.tensor(spread) + torch.tensor(shift)
        if self.measure == "probability" and not getattr(self.model, "gives_probabilities", False):
            outputs = outputs.softmax(1) if self.kind == "multiclass" else outputs.sigmoid()
        # The other class of one output is its mirror image: 1 - p of a probability, -a of a score with its border at 0.
        return torch.cat([2 * self.border - outputs, outputs], 1) if self.kind == "binary" else outputs

    def rank(self, measures: Tensor) -> list[tuple[str, float]]:
        """One row (K,) with names: the best first; as they come for several labels and for regression."""
        if self.kind in ("regression", "multilabel"):
            return list(zip(self.names, measures.tolist(), strict=True))
        order = measures.argsort(descending=True, stable=True).tolist()
        return [(self.names[k], float(measures[k])) for k in order]

    def open(self, path: str | Path, reading: Mapping[str, str] | None = None) -> Inputs:
        """The inputs at a path, not yet read.

        Args:
            path: for a model of images a picture or a folder, for one of tables or series a CSV file, for one of texts
                a CSV file or a text file with one text a line, or a text of several words.
            reading: `separator` and `encoding` of the file and its column of texts (`text`), where they are not those
                of training.

        Raises:
            UserError: there is nothing, or nothing of the kind that the model was trained on.
        """
        text, path = str(path), Path(path).expanduser()
        there = exists(path)
        of_words = len(text.split()) > 1 and not text.endswith(TABLE_ENDINGS)
        if of_words and not there and self.preprocessing["kind"] == "text":
            return self.typed(text)
        if not there:
            raise UserError(f"There is nothing at {path}; input= takes a file or a folder that is there.")
        return READERS[self.preprocessing["kind"]](self, path, reading or {})

    def typed(self, text: str) -> Inputs:
        """A single text. Raises UserError where it is empty, or the model was not trained on texts."""
        kind = self.preprocessing["kind"]
        if kind != "text":
            several = kind if kind.endswith("s") else f"{kind}s"
            raise UserError(f"text= is for models of texts, and this one knows {several}; use input=.")
        if not text.strip():
            raise UserError("text= is empty; give it a text, in quotes.")
        return inputs_of_texts(self, [(text, None)], [text], "In the text")

    def answers(self, inputs: Inputs | str | Path, explain: Explain | None = None) -> Iterator[Answer]:
        """One answer after another, in the order of the inputs (files by name, rows as in the file)."""
        opened = inputs if isinstance(inputs, Inputs) else self.open(inputs)
        for places, prepared in opened.chunks:
            answers = self.chunk(places, prepared)
            yield from answers if explain is None else explain(list(answers), prepared)

    def chunk(self, places: list[Place], prepared: Prepared) -> Iterator[Answer]:
        """The answers to inputs of those places."""
        for (file, row), measures in zip(places, self.measures(prepared), strict=True):
            if not measures.isfinite().all():
                raise UserError(f"The model gives no finite number for {file}; did its training go wrong?")
            yield Answer(file, row, self.rank(measures))

    def words(self, name: str, number: float) -> str:
        """One of what is ranked, for people."""
        forms = {"probability": "{} ({:.1%})", "score": "{} ({:.4g})", "value": "{} {:.6g}"}
        return forms[self.measure].format(name, number)

    def text(self, answer: Answer, top: int = 3) -> str:
        """One line for people, with the `top` best classes."""
        shown = answer.ranked[:top] if self.kind in ("multiclass", "binary") else answer.ranked
        place = answer.file if answer.row is None else f"row {answer.row}"
        because = f"; {answer.because}" if answer.because else ""
        return f"{place}: {', '.join(self.words(*pair) for pair in shown)}{because}"

    def json(self, answer: Answer, top: int = 3) -> str:
        """One line of JSON, with the `top` best classes in full precision, or with all labels and those that hold."""
        place = {"input": answer.file} | ({} if answer.row is None else {"row": answer.row})
        reason = {"explanation": answer.explanation} if answer.explanation else {}
        if self.kind == "regression":
            return json.dumps(place | {"values": dict(answer.ranked)} | reason)
        if self.kind == "multilabel":
            plural = "probabilities" if self.measure == "probability" else "scores"
            hold = [name for name, value in answer.ranked if value > self.border]
            return json.dumps(place | {"labels": hold, plural: dict(answer.ranked)} | reason)
        pairs = [{"label": name, self.measure: value} for name, value in answer.ranked]
        return json.dumps(place | pairs[0] | {"top": pairs[:top]} | reason)


def load(source: str | Path, allow: Sequence[str] = ()) -> Predictor:
    """The model of a checkpoint, ready to be used, on the GPU where there is one.

    Args:
        source: run folder (its best), or .ckpt.
        allow: see `zoo.checkpoint.load_model`.

    Raises:
        UserError: no checkpoint, one that was refused, or one of a model that answers with neither labels nor values.
    """
    path = find(source)
    return predictor_of(read(path), path, allow)


def predictor_of(checkpoint: dict[str, Any], path: Path, allow: Sequence[str] = ()) -> Predictor:
    """The same of a checkpoint that was read from `path`."""
    model = build_model(checkpoint, path, allow)
    kind, measure, border = answer_kind(checkpoint, model, path)
    config, preprocessing = checkpoint["config"], checkpoint["preprocessing"]
    names = [str(name) for name in checkpoint.get("classes") or []] or numbered(config, kind)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Predictor(model.to(device), kind, measure, names, preprocessing, config.get("data") or {}, device, border)


def exists(path: Path) -> bool:
    """Whether something lies there; a text may be longer than a path can be."""
    try:
        return path.exists()
    except OSError:
        return False


def numbered(config: dict[str, Any], kind: str) -> list[str]:
    """Names where the data had none."""
    size = config["task"].get("num_targets" if kind == "regression" else "num_classes") or 1
    return [str(k) for k in range(size)]


def answer_kind(checkpoint: Mapping[str, Any], model: nn.Module, path: Path) -> tuple[str, str, float]:
    """(kind, measure, border) of a checkpoint's task and its model; see `Predictor`.

    Raises:
        UserError: inputs that nobody here can open, or another answer than labels and values.
    """
    task = checkpoint["config"].get("task") or {}
    name, kind = str(task.get("_target_", "")).rpartition(".")[2], str(task.get("kind"))
    preprocessing = checkpoint.get("preprocessing")
    if not isinstance(preprocessing, dict) or not preprocessing.get("kind"):
        raise UserError(f"{path} cannot be used on new inputs: it does not say how they are prepared.")
    opened = purpose(checkpoint)[1] in READERS
    if opened and name in ("Regression", "Forecasting"):
        return "regression", "value", 0.0
    of_classes = name in ("Classification", "DomainAdaptation") and kind in ("multiclass", "binary", "multilabel")
    if not opened or not of_classes:
        raise misplaced(path, checkpoint, "answers with neither labels nor values", "python train.py model=lenet5")
    loss = LOSSES.get(str(task.get("loss")))
    if loss is None or hasattr(model, "scores"):
        return kind, "score", 0.0
    # Sigmoids of several classes need not sum to 1.
    rivals = kind == "multiclass" and type(getattr(model, "output_activation", None)).__name__ == "Sigmoid"
    if loss.takes == "logits" or (getattr(model, "gives_probabilities", False) and not rivals):
        return kind, "probability", 0.5
    return kind, "score", loss.border
