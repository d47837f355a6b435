"""Domain adaptation: classes are learnt from labelled images of one domain, for images of another that has no labels.

    loss = cross-entropy(source) + weight * distance(features of the source, features of the target)

The distance is that of covariances ("coral"), or what a second head can still tell the domains apart by ("dann"; there
the weight goes into the reversed gradient, and the head itself learns at full rate). See `zoo.losses.domains`. "none"
leaves the target out: the number beside which the others stand.

Training takes `DomainBatch`es; what is tested is the accuracy on the target's `ImageBatch`es. `domain_accuracy` is how
often the second head is right; 0.5 means that it is left to guess. On several processes each has the covariance of its
own rows.

Axes: B batch, F features, K classes
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import UserError, suggest
from zoo.losses.domains import coral, domain_confusion, reversal_strength
from zoo.metrics.codes import in_the_plane
from zoo.pictures.codes import code_map
from zoo.tasks.supervised import Classification

METHODS = {"dann": ("features", "classify", "domain"), "coral": ("features", "classify"), "none": ()}


class DomainAdaptation(Classification):
    """Which class, in a domain without labels.

    Args:
        model: image -> (B, K); has features (B, ...) -> (B, F), classify (B, F) -> (B, K), and for "dann" domain
            (B, F), strength -> (B,). See `zoo.models.dann`.
        optimizer, scheduler: see `Task`.
        num_classes, kind, loss: see `Classification`.
        method: "dann", "coral" or "none".
        weight: of the distance of the domains.
        class_names: for pictures.
    """

    batches = ("DomainBatch",)  # type: ignore[assignment]

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[..., Any],
        scheduler: Callable[..., Any] | None = None,
        *,
        num_classes: int,
        kind: str = "multiclass",
        loss: str = "cross_entropy",
        method: str = "dann",
        weight: float = 1.0,
        class_names: Sequence[str] = (),
    ) -> None:
        super().__init__(
            model, optimizer, scheduler, kind=kind, num_classes=num_classes, loss=loss, class_names=class_names
        )
        if method not in METHODS:
            raise UserError(f"There is no task.method={method}{suggest(method, METHODS)}")
        if weight < 0:
            raise UserError(f"task.weight={weight} must be a number from 0 on.")
        self.method, self.weight = method, weight
        self.updates = 0  # of the whole run; 0 where nobody knows

    def check(self, batch: Any) -> None:
        super().check(batch)
        missing = [name for name in METHODS[self.method] if not hasattr(self.model, name)]
        if missing:
            raise UserError(
                f"{type(self.model).__name__} has no {' and no '.join(missing)}, which task.method={self.method} "
                "needs; use model=dann, or task.method=none."
            )

    def on_train_start(self) -> None:
        self.updates = self.planned_updates()[0]

    def strength(self) -> float:
        """Of the reversed gradient, by how much of training is done."""
        done = self.trainer.global_step / self.updates if self.updates else 1.0
        return self.weight * reversal_strength(done)

    def losses(self, batch: Any) -> dict[str, Tensor]:
        if self.method == "none" or not hasattr(batch, "target"):
            return super().losses(batch)
        model: Any = self.model
        source, target = model.features(torch.cat([batch.image, batch.target])).chunk(2)  # (B, F) each
        logits = model.classify(source)  # (B, K)
        found = self.judge(logits, logits, batch.label)
        if self.method == "coral":
            distance = coral(source, target)
            return found | {"loss": found["loss"] + self.weight * distance, "coral": distance.detach()}
        told = model.domain(torch.cat([source, target]), self.strength())  # (2B,)
        confusion, accuracy = domain_confusion(*told.chunk(2))
        return found | {"loss": found["loss"] + confusion, "domain_accuracy": accuracy}

    def show(self, batch: Any) -> dict[str, Any]:
        """Of the target: answers, and where its features lie beside those of the source."""
        shown = super().show(batch)
        if not hasattr(self.model, "features") or self._trainer is None:
            return shown
        data: Any = self.trainer.datamodule
        part = data.part("train")
        source = part[torch.arange(min(len(part), len(batch.image)))].image.to(batch.image)
        with torch.no_grad():
            features = [self.model.features(x) for x in (source, batch.image)]  # type: ignore[operator]
        which = torch.arange(2).repeat_interleave(torch.tensor([len(source), len(batch.image)]))
        title = "first two principal components of the features"
        shown["domains"] = code_map(in_the_plane(torch.cat(features)), which, ["source", "target"], title=title)
        return shown
