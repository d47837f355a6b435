"""Answers with their reasons: a heat map over each picture, the share of each feature of a row.

    reasons = Reasons(predictor, Path("photos"), folder=Path("explained"))
    for answer in predictor.answers("photos", reasons):
        print(answer.file, answer.because)
    print(reasons.summary())

Axes: B inputs in a chunk, C channels, H height, W width, F features
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.analysis.explain import by_name, heat_map
from zoo.errors import UserError, suggest
from zoo.pictures.bars import bars
from zoo.pictures.images import explained_image
from zoo.trained.predict import Answer, Predictor

PIECE = 8  # images explained at a time: gradients take the memory of a training step
SHOWN = 3  # features in a line for people
NAMES = {"gradcam": "Grad-CAM", "saliency": "saliency", "integrated_gradients": "integrated gradients"}
COLOURS = {
    "gradcam": "what speaks for it",
    "saliency": "where it is sensitive",
    "integrated_gradients": "red for it, blue against it",
}


@dataclass
class Reasons:
    """Explains a chunk of answers; to be handed to `Predictor.answers`.

    Args:
        predictor: what gives the answers.
        source: where the inputs come from, a file or a folder.
        folder: where pictures go; they lie in it as the inputs do in `source`.
        method: of `zoo.analysis.explain.METHODS`; None takes Grad-CAM for a network with feature maps, saliency for
            another one, and integrated gradients for rows of a table.
        subject: the class, label or target that is explained; None is the best class, the likeliest label, the first
            target.

    Raises:
        UserError: there is no such method or subject, or `folder` lies in the folder of the inputs.
    """

    predictor: Predictor
    source: Path
    folder: Path
    method: str | None = None
    subject: str | None = None
    count: int = field(default=0, init=False)
    sizes: dict[str, float] = field(default_factory=dict, init=False)  # of each feature's shares, summed over rows

    def __post_init__(self) -> None:
        if self.method is not None:
            by_name(self.method)
        names = self.predictor.names
        if self.subject is not None and self.subject not in names:
            raise UserError(f"The model knows no '{self.subject}'{suggest(self.subject, names)}")
        if self.source.is_dir() and self.folder.resolve().is_relative_to(self.source.resolve()):
            raise UserError(
                f"{self.folder} lies in the folder of the inputs, which the next call would read it with; choose "
                "another explain_out=."
            )

    def __call__(self, answers: list[Answer], inputs: Tensor) -> list[Answer]:
        """The answers to inputs (B, ...), with their reasons."""
        said = self.images(answers, inputs) if inputs.ndim == 4 else self.rows(answers, inputs)
        self.count += len(said)
        return said

    def explained(self, answer: Answer) -> tuple[str, float]:
        """The class, label or target that is explained, and its number."""
        if self.subject is not None:
            return self.subject, dict(answer.ranked)[self.subject]
        if self.predictor.kind == "multilabel":
            return max(answer.ranked, key=lambda pair: pair[1])
        return answer.ranked[0]

    def classes(self, answers: list[Answer]) -> Tensor:
        """What is explained, as `zoo.analysis.explain.class_scores` counts it: (B,)."""
        names = self.predictor.names
        # The one output of a model that has a single name is "class 1".
        index = [names.index(self.explained(answer)[0]) if len(names) > 1 else 1 for answer in answers]
        return torch.tensor(index, device=self.predictor.device)

    def images(self, answers: list[Answer], images: Tensor) -> list[Answer]:
        """Draws each of the images (B, C, H, W) beside its heat map."""
        mean, std = (torch.tensor(self.predictor.preprocessing[key]).view(-1, 1, 1) for key in ("mean", "std"))
        said = []
        for start in range(0, len(answers), PIECE):
            some, x = answers[start : start + PIECE], images[start : start + PIECE]
            inputs = x.to(self.predictor.device)
            self.method, heats = heat_map(self.predictor.model, inputs, self.classes(some), self.method)
            for answer, image, heat in zip(some, x * std + mean, heats.cpu(), strict=True):
                colours = COLOURS[self.method] if heat.any() else "nothing speaks for it"
                subject = self.explained(answer)
                caption = f"{NAMES[self.method]}: {colours}"
                figure = explained_image(image, heat, self.predictor.words(*subject), caption=caption)
                path = self.write(figure, Path(answer.file))
                facts = {"explained": subject[0], "method": self.method, "picture": str(path)}
                said.append(replace(answer, because=f"explained in {path}", explanation=facts))
        return said

    def rows(self, answers: list[Answer], x: Tensor) -> list[Answer]:
        """Adds to each of the rows (B, F) the features that its answer comes from, the largest first."""
        from zoo.data.table_preprocessing import TablePreprocessing

        self.method = self.method or "integrated_gradients"
        features = TablePreprocessing.from_dict(self.predictor.preprocessing).features
        shares = by_name(self.method)(self.predictor.model, x.to(self.predictor.device), self.classes(answers)).cpu()
        subjects = [self.explained(answer)[0] for answer in answers]
        spread = self.predictor.preprocessing.get("target_std")
        if self.predictor.kind == "regression" and spread is not None:  # in the target's own units
            shares = shares * torch.tensor(spread)[[self.predictor.names.index(name) for name in subjects]][:, None]
        said = []
        for answer, subject, row in zip(answers, subjects, shares.tolist(), strict=True):
            found = dict(sorted(zip(features, row, strict=True), key=lambda pair: -abs(pair[1])))
            facts = {"explained": subject, "method": self.method, "attributions": found}
            said.append(replace(answer, because=self.sentence(subject, found), explanation=facts))
            for name, share in found.items():
                self.sizes[name] = self.sizes.get(name, 0.0) + abs(share)
        return said

    def sentence(self, subject: str, shares: dict[str, float]) -> str:
        """What the largest features do, in words."""
        largest = [(name, float(f"{share:.3g}")) for name, share in shares.items() if share][:SHOWN]
        if not largest:
            return f"no feature has a part in {subject}"
        if self.method == "saliency":
            return f"{subject} is most sensitive to {', '.join(f'{name} ({share:,g})' for name, share in largest)}"
        return f"for {subject}: {', '.join(f'{name} {share:+,g}' for name, share in largest)}"

    def summary(self) -> str:
        """One line on what was explained; for a table with a picture of its features over all rows."""
        method = NAMES[str(self.method)]
        if not self.sizes:
            return f"Explained by {method}: {self.count} picture{'s' if self.count > 1 else ''} in {self.folder}"
        means = {name: size / self.count for name, size in self.sizes.items()}
        title = f"{method}, {self.count} row{'s' if self.count > 1 else ''} of {self.source.name}"
        path = self.write(bars(means, xlabel="mean size of a feature's share", title=title), self.source)
        return f"Explained by {method}: the features over all rows in {path}"

    def write(self, figure: Any, of: Path) -> Path:
        """Writes the picture that belongs to an input; returns where."""
        below = of.relative_to(self.source) if self.source.is_dir() else Path(of.name)
        path = self.folder / below.parent / f"{below.name}.{self.method}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
        return path
