"""Learning from labelled examples: classification and regression.

Axes: B batch, K classes, labels or target columns
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    Accuracy,
    BinaryConfusionMatrix,
    F1Score,
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
)
from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError, R2Score

from zoo.analysis.explain import heat_map
from zoo.batches import TextBatch
from zoo.errors import UserError, suggest
from zoo.losses.supervised import LOSSES, Loss, weight_of
from zoo.metrics.counts import RankCounts
from zoo.pictures.images import captioned_images, heat_over
from zoo.pictures.matrices import confusion_matrix
from zoo.pictures.points import predicted_and_true
from zoo.pictures.rates import PrecisionRecall
from zoo.pictures.texts import answered
from zoo.tasks.base import Task

MOST_TEXTS = 12
EXPLAINED = 12  # images; their gradients need less memory than the 256 answers beside them
THRESHOLDS, MOST_CURVES = 51, 20  # of precision against recall; of more classes there is none
KINDS = ("multiclass", "binary", "multilabel")
ENDINGS = {"multiclass": "Softmax", "binary": "Sigmoid", "multilabel": "Sigmoid"}  # that make probabilities
# What a model may give: what a loss may take of it (`zoo.losses.supervised.Loss`).
FIT = {
    "logits": ("logits", "margins", "values"),
    "probabilities": ("probabilities", "values"),
    "sigmoids, which need not sum to 1": ("values",),
}
NEUTRAL = {"class_weights": None, "label_smoothing": 0.0, "delta": 1.0}  # what leaves a loss as it is


def choose(name: str, kind: str, model: nn.Module, options: Mapping[str, Any]) -> tuple[Loss, dict[str, Any]]:
    """The loss of that name, and those of its options that change it.

    Args:
        kind: "multiclass", "binary", "multilabel" or "regression".
        model: says by its `gives_probabilities` whether it ends in a softmax or sigmoid.
        options: see `NEUTRAL`.

    Raises:
        UserError: one line on what does not fit, with the losses that would do.
    """
    known = {other: loss for other, loss in LOSSES.items() if kind in loss.kinds}
    if name not in known:
        raise UserError(f"task.loss={name} is not a loss of this task{suggest(name, known)}")
    loss, chosen = known[name], {key: value for key, value in options.items() if value != NEUTRAL[key]}
    given = outputs_of(model, kind)
    fit = {other: found for other, found in known.items() if found.takes in FIT[given]}
    if name not in fit:
        right = ENDINGS[kind] if loss.takes == "probabilities" else "null"
        another = f" (or model.output_activation={right})" if hasattr(model, "output_activation") else ""
        raise UserError(
            f"task.loss={name} takes {loss.takes}, and this {type(model).__name__} gives {given}{another}; "
            f"{would_do(fit)}."
        )
    foreign = [key for key in chosen if key not in loss.options]
    if foreign:
        fit = {other: found for other, found in fit.items() if set(chosen) <= set(found.options)}
        raise UserError(f"task.loss={name} knows no {' and '.join(foreign)}; {would_do(fit)}.")
    return loss, chosen


def would_do(losses: Iterable[str]) -> str:
    return f"losses that would do: {', '.join(losses) or 'none'}"


def outputs_of(model: nn.Module, kind: str) -> str:
    """A key of `FIT`. Raises UserError for a model whose last layer cannot answer what is asked."""
    if not getattr(model, "gives_probabilities", False):
        return "logits"
    last = type(getattr(model, "output_activation", None)).__name__
    if kind == "regression":
        raise UserError(
            f"This {type(model).__name__} gives probabilities, and the targets of a regression go beyond 0 and 1; use "
            "model.output_activation=null."
        )
    if last == "Softmax" and kind != "multiclass":
        why = "one output always 1" if kind == "binary" else "labels exclude each other"
        raise UserError(f"A softmax over this task's outputs makes {why}; use model.output_activation=Sigmoid.")
    return "sigmoids, which need not sum to 1" if last == "Sigmoid" and kind == "multiclass" else "probabilities"


class Supervised(Task):
    """A model's answer is compared with the target of each sample; metrics of the whole set come from torchmetrics."""

    batches = ("ImageBatch", "TableBatch", "TextBatch", "SequenceBatch")

    def __init__(
        self, model: nn.Module, metrics: dict[str, Any], loss: tuple[Loss, dict[str, Any]], **base: Any
    ) -> None:
        super().__init__(model, **base)
        self.loss, self.loss_options = loss
        self.metrics = nn.ModuleDict(
            {f"{stage}_": MetricCollection(metrics, compute_groups=False) for stage in ("val", "test")}
        )

    def collection(self, stage: str) -> Any:
        """The torchmetrics of "val" or "test"."""
        return self.metrics[f"{stage}_"]

    def check(self, batch: Any) -> None:
        super().check(batch)
        mask, dims = getattr(batch, "mask", None), 3 if batch.targets.is_floating_point() else 2
        if mask is not None and batch.targets.ndim == dims and batch.targets.shape[:2] == mask.shape:
            raise UserError(
                f"{type(self).__name__} has one answer for a whole sequence, and this data one for each step; leave "
                "task= out, and the data brings its own."
            )

    def scores(self, batch: Any) -> tuple[Tensor, Tensor]:
        """(outputs, scores), each (B, K): what the loss compares, and what ranks the classes.

        They differ only for a model that has `scores` of its own, such as the perceptron, whose outputs are 0 and 1.
        """
        outputs = self.model(*batch.inputs)
        own = getattr(self.model, "scores", None)
        return outputs, outputs if own is None else own(*batch.inputs)

    def losses(self, batch: Any) -> dict[str, Tensor]:
        outputs, scores = self.scores(batch)
        return self.judge(outputs, scores, batch.targets)

    def judge(self, outputs: Tensor, scores: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"loss": self.compare(outputs, targets)}

    def compare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.loss.function(outputs, targets, **self.loss_options)

    def start(self, stage: str) -> None:
        super().start(stage)
        self.collection(stage).reset()

    def evaluate(self, stage: str, batch: Any) -> None:
        outputs, scores = self.scores(batch)
        found = self.judge(outputs, scores, batch.targets)
        self.means[stage].add(found, self.count_items(batch), self.over_samples(len(outputs)))
        self.collection(stage).update(*self.for_metrics(scores, batch.targets))
        self.rank(stage, scores, batch.targets)

    def rank(self, stage: str, scores: Tensor, targets: Tensor) -> None:
        """Takes the scores of a batch themselves into account, where they rank samples."""

    def for_metrics(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return scores, targets

    def whole_set_metrics(self, stage: str) -> dict[str, float]:
        computed = self.collection(stage).compute()
        return {name: float(value) for name, value in computed.items() if value.numel() == 1}


class Classification(Supervised):
    """Which class, or which labels.

    Args:
        model: inputs -> (B, K) logits, or probabilities where it says `gives_probabilities`; K = 1 for two classes told
            apart by one output.
        kind: "multiclass" (one of K), "binary" (yes or no, K = 1) or "multilabel" (any of K).
        num_classes: K as the data counts it (2 for binary).
        loss: a name of `zoo.losses.supervised.LOSSES` that is for this kind and model.
        class_weights: weight of each class in the loss, or None.
        label_smoothing: share of the target spread over all classes, for losses that take distributions.
        delta: where huber turns from squared to linear.
        top_k: also report whether the right class is among the k best, where K > k.
        class_names: names of the K classes, for pictures.
    """

    monitor = "val/accuracy"
    mode = "max"
    by_sample = ("accuracy",)  # the loss is a mean by weight where classes have weights

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[..., Any],
        scheduler: Callable[..., Any] | None = None,
        *,
        kind: str = "multiclass",
        num_classes: int,
        loss: str = "cross_entropy",
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        delta: float = 1.0,
        top_k: int = 5,
        class_names: Sequence[str] = (),
    ) -> None:
        if kind not in KINDS:
            raise UserError(f"There is no kind of classification '{kind}'{suggest(kind, KINDS)}")
        options = {"class_weights": class_weights, "label_smoothing": label_smoothing, "delta": delta}
        chosen, metrics = choose(loss, kind, model, options), self._metrics(kind, num_classes, top_k)
        super().__init__(model, metrics, chosen, optimizer=optimizer, scheduler=scheduler)
        self.kind, self.num_classes = kind, num_classes
        self.class_names = list(class_names) or [str(k) for k in range(num_classes)]
        curves = 1 if kind == "binary" else num_classes
        stages = ("val", "test") if num_classes <= MOST_CURVES else ()
        self.ranks = nn.ModuleDict({f"{stage}_": RankCounts(curves, THRESHOLDS) for stage in stages})
        self.ranked: PrecisionRecall | None = None  # of the newest pass
        # A model with scores of its own, such as the perceptron, tells classes apart by their sign.
        self.border = 0.0 if hasattr(model, "scores") else self.loss.border
        if class_weights is not None:  # a buffer moves to the device with the task
            weights = torch.tensor([float(weight) for weight in class_weights])
            self.register_buffer("class_weights", weights, persistent=False)

    @staticmethod
    def _metrics(kind: str, num_classes: int, top_k: int) -> dict[str, Any]:
        sizes = {"multiclass": {"num_classes": num_classes}, "multilabel": {"num_labels": num_classes}}.get(kind, {})
        average = {} if kind == "binary" else {"average": "macro"}
        metrics: dict[str, Any] = {
            "accuracy": Accuracy(task=kind, **sizes, **({} if kind == "binary" else {"average": "micro"})),
            "f1": F1Score(task=kind, **sizes, **average),
        }
        if kind == "multiclass":
            metrics["confusion"] = MulticlassConfusionMatrix(num_classes)
            if num_classes > top_k:
                metrics[f"accuracy_top{top_k}"] = MulticlassAccuracy(num_classes, top_k=top_k, average="micro")
        elif kind == "binary":
            metrics["confusion"] = BinaryConfusionMatrix()
        return metrics

    def compare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        weights = {"class_weights": self.class_weights} if "class_weights" in self.loss_options else {}
        return self.loss.function(outputs, targets, **self.loss_options | weights)

    def count_items(self, batch: Any) -> float:
        """The samples, or their weight where classes have weights."""
        if "class_weights" not in self.loss_options:
            return super().count_items(batch)
        return float(weight_of(batch.targets, self.class_weights, yes_or_no=self.kind != "multiclass"))

    def labels(self, targets: Tensor) -> Tensor:
        """What `predict` should say: (B,) class index, also where targets are distributions (B, K) over classes."""
        return targets.argmax(1) if self.kind == "multiclass" and targets.ndim == 2 else targets

    def predict(self, scores: Tensor) -> Tensor:
        """(B, K) -> (B,) class index, or (B, K) of 0 and 1 for several labels."""
        if self.kind == "multiclass":
            return scores.argmax(1)
        yes = (scores > self.border).long()  # (B, K)
        return yes[:, 0] if self.kind == "binary" else yes

    def judge(self, outputs: Tensor, scores: Tensor, targets: Tensor) -> dict[str, Tensor]:
        right = self.predict(scores.detach()) == self.labels(targets)
        at_least = torch.promote_types(outputs.dtype, torch.float32)  # float64 where the run is
        return {"loss": self.compare(outputs, targets), "accuracy": right.to(at_least).mean()}

    def for_metrics(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        # Answers, not probabilities: a sigmoid that rounds to 0.5 must not make another class of the same score.
        return (scores, self.labels(targets)) if self.kind == "multiclass" else (self.predict(scores), targets.long())

    def start(self, stage: str) -> None:
        super().start(stage)
        self.ranked = None
        if self.ranks:
            self.ranking(stage).reset()

    def ranking(self, stage: str) -> Any:
        return self.ranks[f"{stage}_"]

    def chances(self, scores: Tensor) -> Tensor:
        """(B, K), or (B, 1) of two classes: the probability of each class, of the second one of two."""
        if outputs_of(self.model, self.kind) != "logits":
            return scores
        return scores.softmax(1) if self.kind == "multiclass" else scores.sigmoid()

    def rank(self, stage: str, scores: Tensor, targets: Tensor) -> None:
        if not self.ranks or not scores.isfinite().all():
            return
        chances, labels = self.chances(scores), self.labels(targets).long()
        of_class = nn.functional.one_hot(labels, self.num_classes) if self.kind == "multiclass" else labels
        self.ranking(stage).update(chances, of_class.view_as(chances).bool())

    def whole_set_metrics(self, stage: str) -> dict[str, float]:
        if self.ranks:
            with self.ranking(stage).sync_context():  # over processes, so every process must call it
                counts = self.ranking(stage).confmat.clone()  # (T, K, 2, 2)
            names = self.class_names[1:] if self.kind == "binary" else self.class_names
            self.ranked = PrecisionRecall(counts, names)
        return super().whole_set_metrics(stage)

    def show(self, batch: Any) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        for stage in ("test", "val"):
            collection = self.collection(stage)
            if "confusion" in collection and collection["confusion"].update_called:
                matrix = collection["confusion"].compute()
                shown["confusion_matrix"] = confusion_matrix(matrix, self.class_names)
                break
        if self.ranked is not None and self.ranked.counts.any():
            shown["precision_recall"] = self.ranked
        images = batch.inputs[0]
        if self.kind == "multilabel" or not (images.ndim == 4 or isinstance(batch, TextBatch)):
            return shown
        with torch.no_grad():
            scores = self.scores(batch)[1]
            predicted, labels = self.predict(scores), self.labels(batch.targets)
        if isinstance(batch, TextBatch):
            return shown | self.texts(batch, self.chances(scores), predicted, labels)
        captions = [
            self.class_names[p] if p == t else f"{self.class_names[p]} (is {self.class_names[t]})"
            for p, t in zip(predicted.tolist(), labels.tolist(), strict=True)
        ]
        right = predicted == labels
        shown["predictions"] = captioned_images(images, captions, right)
        if (~right).any():
            wrong = [i for i, ok in enumerate(right.tolist()) if not ok]
            shown["misclassified"] = captioned_images(images[wrong], [captions[i] for i in wrong], right[wrong])
        few = slice(EXPLAINED)
        return shown | self.explained(images[few], predicted[few], captions[few], right[few])

    def texts(self, batch: TextBatch, chances: Tensor, predicted: Tensor, labels: Tensor) -> dict[str, str]:
        """The first texts with what is said of them, and the first of those of which it is wrong."""
        tokenizer = getattr(self.trainer.datamodule, "tokenizer", None)
        if tokenizer is None:
            return {}
        sure = torch.maximum(chances, 1 - chances if self.kind == "binary" else chances).amax(1)  # (B,)
        shown, wrong = {}, (predicted != labels).nonzero().flatten()
        for name, picked in (("predictions", torch.arange(len(labels))), ("misclassified", wrong.cpu())):
            few = picked[:MOST_TEXTS].to(labels.device)
            if len(few):
                said, true = ([self.class_names[k] for k in rows[few].tolist()] for rows in (predicted, labels))
                rows = zip(batch.tokens[few].tolist(), batch.mask[few].sum(1).tolist(), strict=True)
                shown[name] = answered(
                    [tokenizer.decode(row[:length]) for row, length in rows], said, sure[few].tolist(), true
                )
        return shown

    def explained(self, images: Tensor, predicted: Tensor, captions: list[str], right: Tensor) -> dict[str, Any]:
        """Heat maps of what was predicted, by the method that the model allows; {} for one that knows no gradient."""
        try:
            method, heat = heat_map(self.model, images, predicted)
        except UserError:
            return {}
        return {method: captioned_images(heat_over(images, heat), captions, right)}


class Regression(Supervised):
    """How much: real-valued targets.

    Args:
        model: inputs -> (B, K).
        num_targets: K.
        loss: mean_squared_error, mean_absolute_error or huber.
        delta: where huber turns from squared to linear.
        target_mean, target_std: by which the data standardized each target, K numbers each. The loss is taken on the
            standardized targets; the metrics are in the targets' own units.
        target_names: names of the K targets, for pictures.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[..., Any],
        scheduler: Callable[..., Any] | None = None,
        *,
        num_targets: int = 1,
        loss: str = "mean_squared_error",
        delta: float = 1.0,
        target_mean: Sequence[float] | None = None,
        target_std: Sequence[float] | None = None,
        target_names: Sequence[str] = (),
    ) -> None:
        metrics = {
            "mse": MeanSquaredError(num_outputs=num_targets),
            "mae": MeanAbsoluteError(num_outputs=num_targets),
            "r2": R2Score(),
        }
        chosen = choose(loss, "regression", model, {"delta": delta})
        super().__init__(model, metrics, chosen, optimizer=optimizer, scheduler=scheduler)
        self.target_names = list(target_names)
        self.register_buffer("shift", torch.tensor(list(target_mean or [0.0] * num_targets)), persistent=False)
        self.register_buffer("spread", torch.tensor(list(target_std or [1.0] * num_targets)), persistent=False)

    def start(self, stage: str) -> None:
        super().start(stage)
        if self.dtype == torch.float64:  # torchmetrics sums in float32 unless it is told, whatever the run is in
            self.collection(stage).set_dtype(torch.float64)

    def whole_set_metrics(self, stage: str) -> dict[str, float]:
        """mse and mae in the targets' own units and r2, each a mean over the K columns.

        They are summed on the standardized values: in units of a million, float32 would lose the variance.
        """
        metrics, spread = self.collection(stage), self.spread
        found = {
            "mse": float((metrics["mse"].compute() * spread.square()).mean()),
            "mae": float((metrics["mae"].compute() * spread).mean()),
        }
        with metrics["r2"].sync_context():  # of all processes, which must all go the same way from here
            total = int(metrics["r2"].total)
        # The variance of a single sample is not defined, and neither is the share of it that is explained.
        return found | ({"r2": float(metrics["r2"].compute())} if total > 1 else {})

    def in_units(self, values: Tensor) -> Tensor:
        """Standardized values (B, K) in the targets' own units."""
        return values * self.spread + self.shift

    def show(self, batch: Any) -> dict[str, Any]:
        with torch.no_grad():
            outputs = self.scores(batch)[1]
        return {
            "predicted_and_true": predicted_and_true(
                self.in_units(outputs).flatten(), self.in_units(batch.targets).flatten()
            )
        }
