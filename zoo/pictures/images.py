"""Images side by side, with captions, and with heat maps over them.

Axes: N images, C channels, H height, W width, T versions of an image
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from zoo.pictures.figure import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RIGHT, WRONG = "#1a7f37", "#cf222e"


def in_lines(caption: str, width: int = 22) -> str:
    """A caption that stays above its own image: what is in brackets on a line of its own, and long lines cut."""
    lines = [caption] if len(caption) <= width else caption.replace(" (", "\n(", 1).split("\n")
    return "\n".join(line if len(line) <= width else line[: width - 1] + "…" for line in lines)


def captioned_images(images: Tensor, captions: Sequence[str], right: Tensor, *, most: int = 24) -> Figure:
    """images (N, C, H, W) of any range -> a grid, each with its caption, green where `right` (N,) and else red."""
    images, captions = images[:most].detach().float().cpu(), captions[:most]
    low = images.amin(dim=(1, 2, 3), keepdim=True)
    scale = (images.amax(dim=(1, 2, 3), keepdim=True) - low).clamp(min=1e-8)
    shown = ((images - low) / scale).permute(0, 2, 3, 1)  # (N, H, W, C) in [0, 1]
    if shown.shape[-1] != 3:
        shown = shown[..., :1].expand(-1, -1, -1, 3)  # (N, H, W, 3)
    number, height, width, _ = shown.shape
    columns = min(6, number)
    rows = -(-number // columns)
    above = max(2, round(0.28 * height))
    between = max(1, round(0.08 * width), round(0.85 * (height + above)) - width)  # captions need room, however narrow
    # One picture with gaps is drawn ten times faster than an axis for each image.
    mosaic = torch.ones(rows * (height + above), columns * (width + between), 3)
    figure, axes = new_figure(1.45 * columns, 1.7 * rows, layout=None)  # to find one takes as long as to draw it
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=0.99)
    axis = axes[0, 0]
    axis.axis("off")
    for i, (caption, ok) in enumerate(zip(captions, right.tolist(), strict=False)):
        top, left = (i // columns) * (height + above) + above, (i % columns) * (width + between) + between // 2
        mosaic[top : top + height, left : left + width] = shown[i]
        color = RIGHT if ok else WRONG
        place = {"ha": "center", "va": "bottom", "fontsize": 8, "color": color}
        place["parse_math"] = False  # a name with a dollar sign is no formula
        axis.text(left + width / 2 - 0.5, top - 0.5 - 0.04 * height, in_lines(caption), **place)
    axis.imshow(mosaic.numpy(), interpolation="nearest")
    return figure


def heat_over(images: Tensor, heat: Tensor) -> Tensor:
    """Images (N, C, H, W) of any range in grey, their heat (N, H, W) in colours over them: (N, 3, H, W) in [0, 1].

    Each heat is drawn on a scale of its own: from transparent over red to yellow; where it has values below 0, red is
    above and blue below.
    """
    grey, heat = images.detach().float().cpu().mean(1, keepdim=True), heat.detach().float().cpu()  # (N, 1, H, W)
    low, high = grey.amin((2, 3), keepdim=True), grey.amax((2, 3), keepdim=True)
    grey = (grey - low) / (high - low).clamp(min=1e-8)
    strength = heat.abs().flatten(1)  # (N, H * W)
    # A few pixels must not set the scale of all the others, unless they are all there is.
    most, largest = strength.quantile(0.995, dim=1), strength.amax(1)
    most = most.where(most > 0.1 * largest, largest).clamp(min=1e-12)[:, None, None]
    share = (heat / most).clamp(-1, 1)  # (N, H, W)
    zero, one = torch.zeros_like(share), torch.ones_like(share)
    if heat.min() < 0:
        channels = [one.where(share > 0, zero), zero + 0.2, one.where(share < 0, zero)]
    else:
        channels = [one, share**2, zero]
    cover = 0.9 * share.abs()[:, None]  # (N, 1, H, W)
    return (1 - cover) * 0.8 * grey + cover * torch.stack(channels, dim=1)  # white would swallow the yellow


def explained_image(image: Tensor, heat: Tensor, title: str, *, caption: str) -> Figure:
    """An image (C, H, W) in [0, 1] beside its heat (H, W), which has a caption of its own."""
    height, width = heat.shape
    side = 3.2
    figure, axes = new_figure(2 * side, side * min(2.0, height / width) + 0.6, columns=2)
    plain = image.detach().float().cpu()[: 3 if len(image) >= 3 else 1].expand(3, -1, -1)  # (3, H, W)
    pairs = [(plain.clamp(0, 1), "what the model sees"), (heat_over(image[None], heat[None])[0], caption)]
    for axis, (picture, name) in zip(axes[0], pairs, strict=True):
        smooth = "antialiased" if min(height, width) > 100 else "nearest"
        axis.imshow(picture.permute(1, 2, 0).numpy(), interpolation=smooth)
        axis.set_title(name, fontsize=9)
        axis.axis("off")
    figure.suptitle(title, parse_math=False)
    return figure


def versions(columns: Mapping[str, Tensor]) -> Figure:
    """{title: images (N, C, H, W) uint8} -> a row for each image, a column for each title; grey levels as they are."""
    colours = [x if x.shape[1] == 3 else x[:, :1].expand(-1, 3, -1, -1) for x in columns.values()]
    shown = torch.stack(colours, dim=1).cpu()  # (N, T, 3, H, W)
    number, titles, _, height, width = shown.shape
    gap = max(1, width // 14)
    mosaic = functional.pad(shown, (gap, 0, gap, 0), value=255).permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)
    pictures, above = 0.8 * number * (height + gap) / (width + gap), 0.25  # inches
    figure, axes = new_figure(0.8 * titles, pictures + above, layout=None)
    figure.subplots_adjust(left=0, right=1, bottom=0, top=pictures / (pictures + above))
    axes[0, 0].axis("off")
    axes[0, 0].imshow(mosaic.numpy(), interpolation="nearest", aspect="auto")
    for i, title in enumerate(columns):
        axes[0, 0].text((i + 0.5) * (width + gap) + gap / 2, 0, title, ha="center", va="bottom", fontsize=8)
    return figure
