from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from zoo.pictures.images import RIGHT, WRONG, captioned_images, explained_image, heat_over


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("num_images", [1, 6, 7, 40])
def test_images_are_drawn_with_their_captions_in_green_or_red(num_images, channels, is_no_blank, written):
    right = torch.arange(num_images) % 2 == 0
    captions = [f"number {i}" for i in range(num_images)]
    images = torch.randn(num_images, channels, 5, 4, generator=torch.Generator().manual_seed(0))
    figure = captioned_images(images, captions, right)
    assert is_no_blank(figure)
    assert written(figure.axes[0]) == captions[:24]
    colours = [RIGHT if ok else WRONG for ok in right.tolist()]
    assert [to_hex(text.get_color()) for text in figure.axes[0].texts] == colours[:24]
    assert all(not axis.axison for axis in figure.axes)


@pytest.mark.parametrize(("low", "high"), [(-3.0, 5.0), (0.0, 1e-3), (0.0, 255.0), (2.0, 2.0)])
def test_an_image_of_any_range_fills_the_range_of_grey(low, high, drawn):
    image = torch.linspace(low, high, 30)[torch.randperm(30, generator=torch.Generator().manual_seed(0))].reshape(6, 5)
    figure = captioned_images(image[None, None], ["a"], torch.tensor([True]))
    drawn(figure)
    whole = figure.axes[0].images[0].get_array()
    left = (whole.shape[1] - 5) // 2
    shown = whole[-6:, left : left + 5]  # the gaps are above and on either side
    expected = (image - low) / max(high - low, 1e-8)
    assert np.allclose(shown, expected[..., None].expand(-1, -1, 3), atol=1e-5)


def test_images_stand_in_rows_of_six_in_their_order(written):
    images = torch.ones(8, 1, 5, 5)
    images[:, 0, 0, 0] = 0  # a black corner marks where an image begins
    axis = captioned_images(images, list("abcdefgh"), torch.ones(8).bool()).axes[0]
    tops, lefts = np.nonzero(axis.images[0].get_array()[..., 0] == 0)
    assert (len(set(tops)), len(set(lefts))) == (2, 6)
    for text, top, left in zip(axis.texts, tops, lefts, strict=True):
        x, y = text.get_position()
        assert x == left + 2  # the middle of five pixels
        assert top - 2 < y < top
    assert written(axis) == list("abcdefgh")


@pytest.mark.parametrize("name", ["$^ a", "a_b^c", "100% {", "\\frac", "größe"])
def test_captions_are_drawn_letter_by_letter(name, drawn, written):
    figure = captioned_images(torch.rand(2, 1, 4, 4), [f"${name} (is {name}$)", name], torch.zeros(2) > 0)
    drawn(figure)
    assert written(figure.axes[0])[1] == name


@pytest.mark.parametrize("height", [4, 8, 20])
def test_long_captions_stay_above_their_own_image_and_say_both_classes(height, drawn, written):
    long = ["golden_retriever_of_the_north (is labrador_retriever_of_the_south)"] * 12
    figure = captioned_images(torch.rand(12, 3, height, 8), long, torch.zeros(12, dtype=torch.bool))
    drawn(figure)
    axis = figure.axes[0]
    boxes = [text.get_window_extent() for text in axis.texts]
    for left, right in pairwise(boxes[:6]):
        assert left.x1 <= right.x0
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height for box in boxes)
    above = axis.transData.transform((0, axis.texts[6].get_position()[1] - 2))[1]  # inside the gap over the second row
    assert boxes[6].y0 < above < boxes[0].y0
    for caption in written(axis):
        assert caption.startswith("golden_retriever")
        assert "\n(is labrador_retr" in caption


def test_heat_is_transparent_at_zero_and_yellow_at_its_largest():
    images, heat = (
        torch.tensor([0.0, 0.5, 1.0, 1.0]).expand(2, 3, 1, 4),
        torch.tensor([[[0.0, 0, 0, 2]], [[9, 0, 0, 0]]]),
    )
    shown = heat_over(images, heat)
    assert torch.allclose(shown[0, :, 0, :3], torch.tensor([0, 0.4, 0.8]).expand(3, 3))  # the image, in grey
    for red, green, blue in (shown[0, :, 0, 3], shown[1, :, 0, 0]):  # whatever the size of the largest
        assert min(red, green) > 0.85
        assert blue < 0.1
    assert shown.min() >= 0
    assert shown.max() <= 1


def test_heat_of_both_signs_is_red_above_and_blue_below_zero():
    shown = heat_over(torch.zeros(1, 1, 1, 3), torch.tensor([[[-3.0, 0, 3]]]))[0, :, 0]  # (3, 3): colour, place
    assert shown.argmax(0)[[0, 2]].tolist() == [2, 0]
    assert shown[:, 1].tolist() == [0, 0, 0]


@pytest.mark.parametrize(("num_outliers", "cover"), [(1, 0.9), (400, 0.18)])
def test_one_pixel_does_not_set_the_scale_of_the_others(num_outliers, cover):
    heat = torch.ones(1, 900)
    heat[:, :num_outliers] = 5.0
    red = heat_over(torch.zeros(1, 1, 30, 30), heat.view(1, 30, 30))[0, 0, -1, -1]
    assert red == pytest.approx(cover)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(4, 4), (120, 150), (300, 20)])
def test_an_image_is_drawn_beside_its_heat(channels, height, width, is_no_blank):
    image, heat = torch.rand(channels, height, width), torch.rand(height, width)
    figure = explained_image(image, heat, "cat $5 (90%)", caption="Grad-CAM")
    assert is_no_blank(figure)
    left, right = figure.axes
    assert np.allclose(left.images[0].get_array(), image.expand(3, -1, -1).permute(1, 2, 0))
    assert np.allclose(right.images[0].get_array(), heat_over(image[None], heat[None])[0].permute(1, 2, 0))
    assert (figure.get_suptitle(), right.get_title()) == ("cat $5 (90%)", "Grad-CAM")


def test_no_heat_at_all_is_the_image_alone():
    shown = heat_over(torch.rand(1, 1, 5, 5), torch.zeros(1, 5, 5))
    assert torch.equal(shown[:, 0], shown[:, 2])
