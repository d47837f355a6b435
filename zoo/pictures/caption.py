"""A heading and a few lines of text above a finished picture, so that it can be understood wherever it is seen."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NARROWEST = 440  # pixels; a picture that has fewer gets white on its right
LARGE, SMALL, EDGE = 15, 13, 8  # pixels: of the heading's letters and of those below, and around both


def pixels(figure: Figure) -> Tensor:
    """A figure as an image (3, H, W) uint8."""
    canvas: Any = figure.canvas
    canvas.draw()
    return torch.from_numpy(np.asarray(canvas.buffer_rgba())[..., :3].copy()).permute(2, 0, 1)


@cache
def font(size: int, *, bold: bool) -> Any:
    """The letters in which pictures are labelled."""
    from matplotlib.font_manager import FontProperties, findfont
    from PIL import ImageFont

    return ImageFont.truetype(findfont(FontProperties(weight="bold" if bold else "normal")), size)


def in_lines(text: str, width: int, letters: Any) -> list[str]:
    """The words of a text in lines of at most so many pixels; a word that is longer has a line for itself."""
    lines: list[str] = []
    space, filled = letters.getlength(" "), 0.0
    for word in text.split():
        length = letters.getlength(word)
        if lines and filled + space + length <= width:
            lines[-1] += f" {word}"
            filled += space + length
        else:
            lines.append(word)
            filled = length
    return lines


@lru_cache(maxsize=64)
def band(text: str, width: int, *, bold: bool) -> Tensor:
    """Lines of text on white, (3, H, width) uint8; always the same one, which is not to be written to."""
    from PIL import Image, ImageDraw

    size, colour = (LARGE, "black") if bold else (SMALL, "#555555")
    letters, step = font(size, bold=bold), round(1.35 * size)
    lines = in_lines(text, width - 2 * EDGE, letters)
    drawn = Image.new("RGB", (width, len(lines) * step), "white")
    for number, line in enumerate(lines):
        ImageDraw.Draw(drawn).text((EDGE, number * step), line, font=letters, fill=colour)
    return torch.from_numpy(np.asarray(drawn).copy()).permute(2, 0, 1)


def captioned(picture: Tensor, heading: str, text: str = "") -> Tensor:
    """A picture (3, H, W), uint8 or in [0, 1], below its caption: (3, H', W') uint8.

    Args:
        heading: set in bold.
        text: set below it.
    """
    picture = picture.detach().cpu()
    picture = picture if picture.dtype == torch.uint8 else (picture.float().clamp(0, 1) * 255).round().byte()
    width = max(NARROWEST, picture.shape[2])
    above = torch.cat([band(heading, width, bold=True), band(text, width, bold=False)], dim=1)
    above = functional.pad(above, (0, 0, EDGE, EDGE), value=255)  # (3, h, width)
    return torch.cat([above, functional.pad(picture, (0, width - picture.shape[2]), value=255)], dim=1)
