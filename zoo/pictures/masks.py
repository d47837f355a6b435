"""Images beside the classes of their pixels, as they are and as somebody says.

Axes: N images, C channels, H height, W width, K classes
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from zoo.pictures.figure import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNKNOWN, GREY = 255, (0.62, 0.62, 0.62)
FIRST = ((0.11, 0.11, 0.13), (0.90, 0.35, 0.25), (0.25, 0.70, 0.40), (0.28, 0.47, 0.90), (0.95, 0.77, 0.25))


def palette(num_classes: int) -> Tensor:
    """(K, 3) in [0, 1]: dark for class 0, which is mostly the background, and colours that are easily told apart."""
    golden = 0.618034  # hues that go on by the golden ratio never come close to one another
    more = [colorsys.hsv_to_rgb((0.8 + golden * k) % 1, 0.65, 0.85) for k in range(max(0, num_classes - len(FIRST)))]
    return torch.tensor([*FIRST, *more][:num_classes])


def coloured(masks: Tensor, num_classes: int) -> Tensor:
    """(N, H, W) classes -> (N, 3, H, W) in [0, 1]; pixels that nobody knows are grey."""
    colours = torch.cat([palette(num_classes), torch.tensor([GREY])])  # (K + 1, 3)
    places = masks.cpu().long()
    return colours[places.where(places != UNKNOWN, num_classes)].movedim(3, 1)


def in_range(images: Tensor) -> Tensor:
    """Images (N, C, H, W) of any range -> (N, 3, H, W) in [0, 1], each on a scale of its own."""
    images = images.detach().float().cpu()
    images = images if images.shape[1] == 3 else images[:, :1].expand(-1, 3, -1, -1)
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    return (images - low) / (high - low).clamp(min=1e-8)


def mask_over(images: Tensor, masks: Tensor, num_classes: int, *, cover: float = 0.55) -> Tensor:
    """Images (N, C, H, W) of any range under the colours of their masks (N, H, W): (N, 3, H, W) in [0, 1].

    Class 0 leaves an image as it is, only darker.
    """
    shown, colours = in_range(images), coloured(masks, num_classes)
    there = (masks.cpu() > 0).unsqueeze(1)  # (N, 1, H, W)
    return torch.where(there, (1 - cover) * shown + cover * colours, 0.6 * shown)


def images_with_masks(
    images: Tensor, masks: Tensor | None, said: Mapping[str, Tensor], class_names: Sequence[str]
) -> Figure:
    """A row for each image: itself, the true classes, what each one says, and where the last is wrong.

    Args:
        images: (N, C, H, W) of any range.
        masks: (N, H, W), the truth; None where nobody knows it.
        said: {title: (N, H, W)}.
        class_names: of the K classes.
    """
    number = len(class_names)
    columns = {"image": in_range(images)}
    if masks is not None:
        columns["true"] = coloured(masks, number)
    columns |= {title: coloured(classes, number) for title, classes in said.items()}
    if masks is not None and said:
        last = list(said.values())[-1].cpu()
        wrong = (last != masks.cpu()) & (masks.cpu() != UNKNOWN)  # (N, H, W)
        columns["wrong"] = 1 - wrong.float().unsqueeze(1).expand(-1, 3, -1, -1)
    shown = torch.stack(list(columns.values()), dim=1)  # (N, columns, 3, H, W)
    rows, across, _, height, width = shown.shape
    gap = max(1, round(width / 16))
    mosaic = functional.pad(shown, (gap, 0, gap, 0), value=1.0).permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)
    side = 1.1
    pictures, above, below = side * rows * (height + gap) / (width + gap), 0.25, 0.35  # inches
    figure, axes = new_figure(side * across, pictures + above + below, layout=None)
    whole = pictures + above + below
    figure.subplots_adjust(left=0, right=1, bottom=below / whole, top=1 - above / whole)
    axes[0, 0].axis("off")
    axes[0, 0].imshow(mosaic.numpy(), interpolation="nearest", aspect="auto")
    for i, title in enumerate(columns):
        axes[0, 0].text((i + 0.5) * (width + gap) + gap / 2, 0, title, ha="center", va="bottom", fontsize=8)
    legend(figure, class_names)
    return figure


def legend(figure: Figure, class_names: Sequence[str], *, most: int = 8, skip: int = 0) -> None:
    """The colour of each class below the pictures; the first `skip` colours are those of no class."""
    from matplotlib.patches import Patch

    shown = list(class_names)[:most]
    colours = palette(len(shown) + skip).tolist()[skip:]
    patches = [Patch(color=colour, label=name) for name, colour in zip(shown, colours, strict=True)]
    options = {"ncols": len(patches), "frameon": False, "fontsize": 8, "handlelength": 1.0, "columnspacing": 1.0}
    made = figure.legend(handles=patches, loc="lower center", **options)
    for text in made.get_texts():
        text.set_parse_math(False)
