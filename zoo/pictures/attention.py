"""What a model looks at: attention weights as heat maps, with tokens on both axes, or over an image.

Bahdanau, Cho, Bengio, "Neural machine translation by jointly learning to align and translate", 2015, figure 3; Xu et
al., "Show, attend and tell", 2015, figure 3.

Axes: H heads, T tokens of the target, S tokens or places of the source
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.pictures.figure import new_figure
from zoo.pictures.images import heat_over

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKS = {" ": "▁", "\n": "⏎", "\t": "⇥"}  # a word piece that begins a word begins with a space
LONGEST = 18  # characters of a label
LABEL_SIZE = 8  # points
MOST_LABELS = 60  # of an axis
ACROSS = 4  # panels side by side


def label(token: str) -> str:
    """A token as it is drawn: white space as marks, what the font lacks as a box, and no longer than `LONGEST`."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties()))
    marked = "".join(MARKS.get(character, character) for character in token)
    drawn = "".join(c if font.get_char_index(ord(c)) else "□" for c in marked)
    return drawn if len(drawn) <= LONGEST else drawn[: LONGEST - 1] + "…"


def put_tokens(axis: Any, src_tokens: Sequence[str] | None, tgt_tokens: Sequence[str] | None) -> None:
    """Source tokens above the heat map, target tokens on its left; None leaves that side empty."""
    axis.xaxis.tick_top()
    for tokens, set_ticks in ((src_tokens, axis.set_xticks), (tgt_tokens, axis.set_yticks)):
        step = math.ceil(len(tokens or ()) / MOST_LABELS) or 1
        places = range(0, len(tokens or ()), step)
        set_ticks(places, [label(token) for token in (tokens or ())[::step]], fontsize=LABEL_SIZE, parse_math=False)
    for text in axis.get_xticklabels():
        text.set_rotation(90 if len(text.get_text()) > 1 else 0)
    axis.tick_params(length=2)


def alignment(weights: Tensor, src_tokens: Sequence[str], tgt_tokens: Sequence[str], title: str = "") -> Figure:
    """How much each token of the target looks at each of the source: a row for each step.

    Args:
        weights: (T, S), rows that sum to 1.
        src_tokens, tgt_tokens: S and T texts.
    """
    num_steps, num_places = weights.shape
    figure, axes = new_figure(min(14.0, 2.2 + 0.26 * num_places), min(14.0, 1.6 + 0.24 * num_steps))
    axis = axes[0, 0]
    image = axis.imshow(weights.float().cpu().numpy(), cmap="Blues", vmin=0, aspect="auto", interpolation="nearest")
    put_tokens(axis, src_tokens, tgt_tokens)
    figure.colorbar(image, ax=axis, pad=0.02).set_label("weight (a row sums to 1)", fontsize=8)
    axis.set_title(title, fontsize=9, parse_math=False)
    return figure


def heads(weights: Tensor, src_tokens: Sequence[str], tgt_tokens: Sequence[str], title: str = "") -> Figure:
    """The heads of one layer side by side, on one scale.

    Args:
        weights: (H, T, S).
        src_tokens, tgt_tokens: S and T texts.
    """
    num_heads, num_steps, num_places = weights.shape
    columns = min(ACROSS, num_heads)
    rows = math.ceil(num_heads / columns)
    width, height = (min(6.0, max(1.6, 0.2 * number)) for number in (num_places, num_steps))  # of a panel, in inches
    left, above, below = room_for(tgt_tokens), room_for(src_tokens) + 0.25, 0.35
    whole = left + columns * (width + 0.15), above + rows * (height + below)
    figure, axes = new_figure(*whole, rows, columns, layout=None)
    edges = {"left": left / whole[0], "right": 1 - 0.15 / whole[0], "bottom": below / whole[1]}
    figure.subplots_adjust(**edges, top=1 - above / whole[1], wspace=0.15 / width, hspace=below / height)
    for number, axis in enumerate(axes.flat):
        if number >= num_heads:
            axis.set_axis_off()
            continue
        shown = weights[number].float().cpu().numpy()
        axis.imshow(shown, cmap="Blues", vmin=0, vmax=float(weights.max()), aspect="auto", interpolation="nearest")
        put_tokens(axis, src_tokens if number < columns else None, tgt_tokens if number % columns == 0 else None)
        axis.set_xlabel(f"head {number + 1}", fontsize=9)
    figure.suptitle(title, fontsize=9, y=1 - 0.05 / whole[1], va="top", parse_math=False)
    return figure


def room_for(tokens: Sequence[str]) -> float:
    """Inches that the widest label takes."""
    from matplotlib.textpath import TextPath

    drawn = {label(token) for token in tokens} - {""}
    widths = [TextPath((0, 0), text, size=LABEL_SIZE).get_extents().width for text in drawn]  # points
    return 0.25 + max(widths, default=0.0) / 72


def of_layers(layers: Mapping[str, Tensor], src_tokens: Sequence[str], tgt_tokens: Sequence[str]) -> dict[str, Figure]:
    """{"attention": the mean over layers and heads, "heads": those of the last layer} of one pair.

    Args:
        layers: {name: (H, T, S)}; where there is but one head in all, it has no picture of its own.
        src_tokens, tgt_tokens: S and T texts.
    """
    name, last = list(layers.items())[-1]
    num_heads = sum(len(weights) for weights in layers.values())
    mean = torch.stack([weights.mean(0) for weights in layers.values()]).mean(0)  # (T, S)
    title = name if num_heads == 1 else f"mean over {num_heads} heads in {len(layers)} layers"
    found = {"attention": alignment(mean, src_tokens, tgt_tokens, title)}
    return found if len(last) == 1 else found | {"heads": heads(last, src_tokens, tgt_tokens, name)}


def over_image(image: Tensor, weights: Tensor, tgt_tokens: Sequence[str], title: str = "") -> Figure:
    """An image, and for each token of its caption where the model looked.

    Args:
        image: (C, H, W) of any range.
        weights: (T, S), the places of a grid from top to bottom, row by row; the grid has the image's proportions.
        tgt_tokens: T texts.
    """
    count, (height, width) = len(weights), image.shape[1:]
    rows = round(math.sqrt(weights.shape[1] * height / width))
    heat = weights.detach().float().cpu().view(count, 1, rows, -1)  # (T, 1, h, w)
    heat = F.interpolate(heat, size=(height, width), mode="bilinear")[:, 0]  # (T, H, W)
    plain = heat.new_zeros(1, height, width)
    image = image.detach().float().cpu()
    drawn = heat_over(image.expand(count + 1, -1, -1, -1), torch.cat([plain, heat]))  # (T + 1, 3, H, W)
    columns = min(6, count + 1)
    panels = math.ceil((count + 1) / columns)
    figure, axes = new_figure(1.4 * columns, 0.4 + 1.6 * panels, panels, columns)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, picture, token in zip(axes.flat, drawn, ["", *tgt_tokens], strict=False):
        axis.imshow(picture.permute(1, 2, 0).numpy())
        axis.set_title(label(token), fontsize=9, parse_math=False)
    figure.suptitle(title, fontsize=9, parse_math=False)
    return figure
