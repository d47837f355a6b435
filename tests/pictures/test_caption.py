"""The lines above a picture: they are there, they fit, and the picture below them stays as it was."""

import pytest
import torch

from zoo.pictures.caption import EDGE, NARROWEST, captioned, font, in_lines, pixels
from zoo.pictures.figure import new_figure


@pytest.mark.parametrize("width", [30, NARROWEST, 900])
def test_a_picture_stands_unchanged_below_its_caption(width):
    picture = torch.rand(3, 20, width)
    whole = captioned(picture, "kernels, epoch 2", "red for positive weights")
    assert whole.dtype == torch.uint8
    assert whole.shape[2] == max(NARROWEST, width)
    assert torch.equal(whole[:, -20:, :width], (picture * 255).round().byte())
    assert (whole[:, -20:, width:] == 255).all()  # beside it there is only white
    above = whole[:, :-20]
    assert (above[:, :EDGE] == 255).all()
    assert above.min() == 0


def test_an_image_of_bytes_keeps_its_bytes():
    picture = torch.randint(0, 256, (3, 8, 500), dtype=torch.uint8)
    assert torch.equal(captioned(picture, "samples")[:, -8:], picture)


def test_more_text_makes_the_caption_higher_and_no_text_is_no_line():
    picture = torch.zeros(3, 8, 500)
    heights = [captioned(picture, "samples", "word " * number).shape[1] for number in (0, 1, 100)]
    assert heights == sorted(set(heights))


def test_lines_hold_all_words_and_are_no_longer_than_the_picture_is_wide():
    letters, text = font(13, bold=False), "what each unit of the first layer looks for: three channels in their colours"
    lines = in_lines(text, 120, letters)
    assert " ".join(lines) == text
    assert all(letters.getlength(line) <= 121 for line in lines)
    assert in_lines("a_word_that_is_much_longer_than_a_line and", 40, letters)[0].startswith("a_word")


def test_the_pixels_of_a_figure_are_what_its_canvas_draws():
    figure, axes = new_figure(1.5, 1.0)
    axes[0, 0].set_facecolor("red")
    image = pixels(figure)
    assert image.shape == (3, 100, 150)
    assert image.dtype == torch.uint8
    assert image[:, 40, 100].tolist() == [255, 0, 0]
