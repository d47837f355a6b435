"""Learning from labelled examples: classification and regression.

Axes: B batch, K classes, labels or target columns
"""

from collections.abc import Callable, Sequence
from functools import partial
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

from zoo import pictures
from zoo.errors import UserError, suggest
from zoo.losses import supervised
from zoo.tasks.base import Task

CLASSIFICATION_LOSSES: dict[str, dict[str, Callable[..., Tensor]]] = {
    "multiclass": {
        "cross_entropy": supervised.cross_entropy,
        "half_squared_error": supervised.half_squared_error,
    },
    "binary": {
        "binary_cross_entropy": supervised.binary_cross_entropy,
        "half_squared_error": supervised.half_squared_error,
    },
    "multilabel": {"binary_cross_entropy": supervised.binary_cross_entropy},
}
REGRESSION_LOSSES: dict[str, Callable[..., Tensor]] = {
    "mean_squared_error": supervised.mean_squared_error,
    "mean_absolute_error": supervised.mean_absolute_error,
    "huber": supervised.huber,
}


def choose(losses: dict[str, Callable[..., Tensor]], name: str) -> Callable[..., Tensor]:
    """The loss of that name. Raises UserError with what there is."""
    if name not in losses:
        raise UserError(f"task.loss={name} is not a loss of this task{suggest(name, losses)}")
    return losses[name]


class Supervised(Task):
    """A model's answer is compared with the target of each sample; metrics of the whole set come from torchmetrics."""

    compare: Callable[[Tensor, Tensor], Tensor]

    def __init__(self, model: nn.Module, metrics: dict[str, Any], **base: Any) -> None:
        super().__init__(model, **base)
        self.metrics = nn.ModuleDict(
            {f"{stage}_": MetricCollection(metrics, compute_groups=False) for stage in ("val", "test")}
        )

    def collection(self, stage: str) -> Any:
        """The torchmetrics of "val" or "test"."""
        return self.metrics[f"{stage}_"]

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

    def start(self, stage: str) -> None:
        super().start(stage)
        self.collection(stage).reset()

    def evaluate(self, stage: str, batch: Any) -> None:
        outputs, scores = self.scores(batch)
        self.means[stage].add(self.judge(outputs, scores, batch.targets), len(outputs))
        self.collection(stage).update(*self.for_metrics(scores, batch.targets))

    def for_metrics(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return scores, targets

    def whole_set_metrics(self, stage: str) -> dict[str, float]:
        computed = self.collection(stage).compute()
        return {name: float(value) for name, value in computed.items() if value.numel() == 1}


class Classification(Supervised):
    """Which class, or which labels.

    Args:
        model: inputs -> (B, K) logits; K = 1 for two classes told apart by one output.
        kind: "multiclass" (one of K), "binary" (yes or no, K = 1) or "multilabel" (any of K).
        num_classes: K as the data counts it (2 for binary).
        loss: cross_entropy, binary_cross_entropy or half_squared_error, as far as the kind allows.
        class_weights: weight of each class in the loss, or None.
        label_smoothing: share of the target spread over all classes (cross_entropy only).
        top_k: also report whether the right class is among the k best, where K > k.
        class_names: names of the K classes, for pictures.
    """

    monitor = "val/accuracy"
    mode = "max"

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
        top_k: int = 5,
        class_names: Sequence[str] = (),
    ) -> None:
        if kind not in CLASSIFICATION_LOSSES:
            raise UserError(f"There is no kind of classification '{kind}'{suggest(kind, CLASSIFICATION_LOSSES)}")
        super().__init__(model, self._metrics(kind, num_classes, top_k), optimizer=optimizer, scheduler=scheduler)
        self.kind, self.num_classes = kind, num_classes
        self.class_names = list(class_names) or [str(k) for k in range(num_classes)]
        options: dict[str, Any] = {}
        if class_weights is not None:
            self.register_buffer("class_weights", torch.tensor(list(class_weights)), persistent=False)
            options["class_weights"] = self.class_weights
        if label_smoothing:
            options["label_smoothing"] = label_smoothing
        if loss == "half_squared_error" and options:
            raise UserError(f"task.loss=half_squared_error knows no {', '.join(options)}; use cross_entropy for that.")
        self.loss = choose(CLASSIFICATION_LOSSES[kind], loss)
        self.loss_options = options

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
        options = self.loss_options
        if "class_weights" in options:
            options = {**options, "class_weights": self.class_weights}
        return self.loss(outputs, targets, **options)

    def predict(self, scores: Tensor) -> Tensor:
        """(B, K) -> (B,) class index, or (B, K) of 0 and 1 for several labels."""
        if self.kind == "multiclass":
            return scores.argmax(1)
        return (scores > 0).long().reshape(len(scores), *([] if self.kind == "binary" else [-1]))

    def judge(self, outputs: Tensor, scores: Tensor, targets: Tensor) -> dict[str, Tensor]:
        right = self.predict(scores.detach()) == targets
        at_least = torch.promote_types(outputs.dtype, torch.float32)  # float64 where the run is
        return {"loss": self.compare(outputs, targets), "accuracy": right.to(at_least).mean()}

    def for_metrics(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        # Answers, not probabilities: a sigmoid that rounds to 0.5 must not make another class of the same score.
        return (scores, targets) if self.kind == "multiclass" else (self.predict(scores), targets.long())

    def show(self, batch: Any) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        for stage in ("test", "val"):
            collection = self.collection(stage)
            if "confusion" in collection and collection["confusion"].update_called:
                matrix = collection["confusion"].compute()
                shown["confusion_matrix"] = pictures.confusion_matrix(matrix, self.class_names)
                break
        images = batch.inputs[0]
        if self.kind == "multilabel" or images.ndim != 4:
            return shown
        with torch.no_grad():
            predicted = self.predict(self.scores(batch)[1])
        captions = [
            self.class_names[p] if p == t else f"{self.class_names[p]} (is {self.class_names[t]})"
            for p, t in zip(predicted.tolist(), batch.targets.tolist(), strict=True)
        ]
        right = predicted == batch.targets
        shown["predictions"] = pictures.captioned_images(images, captions, right)
        if (~right).any():
            wrong = [i for i, ok in enumerate(right.tolist()) if not ok]
            shown["misclassified"] = pictures.captioned_images(
                images[wrong], [captions[i] for i in wrong], right[wrong]
            )
        return shown


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
        super().__init__(model, metrics, optimizer=optimizer, scheduler=scheduler)
        self.target_names = list(target_names)
        self.register_buffer("shift", torch.tensor(list(target_mean or [0.0] * num_targets)), persistent=False)
        self.register_buffer("spread", torch.tensor(list(target_std or [1.0] * num_targets)), persistent=False)
        self.compare = choose(REGRESSION_LOSSES, loss)
        if loss == "huber":
            self.compare = partial(supervised.huber, delta=delta)

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
        # The variance of a single sample is not defined, and neither is the share of it that is explained.
        return found | ({"r2": float(metrics["r2"].compute())} if metrics["r2"].total > 1 else {})

    def in_units(self, values: Tensor) -> Tensor:
        """Standardized values (B, K) in the targets' own units."""
        return values * self.spread + self.shift

    def show(self, batch: Any) -> dict[str, Any]:
        with torch.no_grad():
            outputs = self.scores(batch)[1]
        return {
            "predicted_and_true": pictures.predicted_and_true(
                self.in_units(outputs).flatten(), self.in_units(batch.targets).flatten()
            )
        }
