"""What a trained model sees in new pictures, drawn over them: the class of each pixel, or boxes around things.

    viewer = load("outputs/.../")
    for line in viewer.lines("photos/", Path("drawn")):
        print(line)

Axes: B images in a chunk, C channels, H height, W width, K classes, N boxes of an image
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.checkpoint import build_model
from zoo.errors import UserError
from zoo.losses.detection import boxes_of
from zoo.metrics.boxes import Found, suppress
from zoo.pictures.boxes import images_with_boxes
from zoo.pictures.masks import images_with_masks
from zoo.trained.inputs import open_images
from zoo.trained.purpose import purpose

HEADS = ("segmenter", "detector")
SURE = 0.3  # score from which on a box is told


def draws(checkpoint: Mapping[str, Any]) -> bool:
    """Whether the model of a checkpoint answers with masks or boxes."""
    head, kind = purpose(checkpoint)
    return head in HEADS and kind == "image"


@dataclass
class Viewer:
    """A trained model with what is needed to look through it.

    Args:
        model: images -> logits (B, K, H, W), or what `zoo.losses.detection` reads.
        names: of the K classes.
        preprocessing, data: of the checkpoint.
        task: settings of its task.
    """

    model: nn.Module
    names: list[str]
    preprocessing: dict[str, Any]
    data: dict[str, Any]
    task: dict[str, Any]
    unreadable: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """One line on what the answers mean."""
        what = "share of the pixels" if self.task["head"] == "segmenter" else f"boxes with a score from {SURE} on"
        return f"{type(self.model).__name__}: {what}, {len(self.names)} classes; what is seen is drawn."

    def lines(self, source: str | Path, folder: Path, *, as_json: bool = False) -> Iterator[str]:
        """A line for each picture of a file or folder; each is drawn into `folder`.

        Raises:
            UserError: there is nothing that can be read, or `folder` lies among what is read.
        """
        path = Path(source).expanduser()
        if not path.exists():
            raise UserError(f"There is nothing at {path}; input= takes an image or a folder that is there.")
        if path.is_dir() and folder.resolve().is_relative_to(path.resolve()):
            raise UserError(f"{folder} lies in the folder of the inputs; choose another drawn=.")
        inputs = open_images(self, path, {})
        self.unreadable = inputs.unreadable
        for places, images in inputs.chunks:
            for (file, _), image in zip(places, images, strict=True):
                facts, figure = self.seen(image)
                below = Path(file).relative_to(path) if path.is_dir() else Path(Path(file).name)
                drawn = folder / below.parent / f"{below.name}.seen.png"
                drawn.parent.mkdir(parents=True, exist_ok=True)
                figure.savefig(drawn)
                yield (
                    json.dumps({"input": file} | facts | {"picture": str(drawn)})
                    if as_json
                    else (f"{file}: {self.words(facts)}; drawn in {drawn}")
                )

    @torch.inference_mode()
    def seen(self, image: Tensor) -> tuple[dict[str, Any], Any]:
        """What is in an image (C, H, W), as facts for a program, and drawn."""
        answers = self.model(image[None])
        if self.task["head"] == "segmenter":
            classes = answers.argmax(1)  # (1, H, W)
            counts = torch.bincount(classes.flatten(), minlength=len(self.names))
            shares = dict(zip(self.names, (counts / counts.sum()).tolist(), strict=True))
            return {"shares": shares}, images_with_masks(image[None], None, {"said": classes}, self.names)
        found = self.boxes(answers, (image.shape[1], image.shape[2]))
        rows = zip(found.labels.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True)
        facts = [{"label": self.names[k], "score": score, "box": box} for k, score, box in rows]
        return {"boxes": facts}, images_with_boxes(image[None], {"said": [found]}, self.names)

    def boxes(self, answers: Tensor, size: tuple[int, int]) -> Found:
        """What is found in one image of `size` (H, W)."""
        boxes, sure, chances = boxes_of(answers, len(self.names), size)
        scores = (sure.unsqueeze(4) * chances.unsqueeze(3)).flatten(0, 3)  # (N, K)
        return suppress(boxes.flatten(0, 3), scores, size, least=SURE, overlap=self.task["overlap"])

    def words(self, facts: dict[str, Any]) -> str:
        """The same for people."""
        if "shares" in facts:
            largest = sorted(facts["shares"].items(), key=lambda pair: -pair[1])
            return ", ".join(f"{name} {share:.1%}" for name, share in largest if share)
        return ", ".join(
            f"{one['label']} ({one['score']:.0%}) at {' '.join(f'{edge:.0f}' for edge in one['box'])}"
            for one in facts["boxes"]
        ) or "nothing"  # fmt: skip


def viewer_of(checkpoint: dict[str, Any], path: Path, allow: Sequence[str] = ()) -> Viewer:
    """The model of a checkpoint that `draws`; arguments as in `zoo.checkpoint.load_model`."""
    config = checkpoint["config"]
    names = [str(name) for name in checkpoint.get("classes") or range(config["task"]["num_classes"])]
    model = build_model(checkpoint, path, allow)
    return Viewer(model, names, checkpoint["preprocessing"], config.get("data") or {}, config["task"])
