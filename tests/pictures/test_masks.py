import pytest
import torch

from zoo.pictures.masks import coloured, images_with_masks, mask_over, palette


def drawn_masks(number: int, num_classes: int) -> torch.Tensor:
    return torch.randint(num_classes, (number, 9, 12), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("number", "channels", "num_classes"), [(1, 1, 2), (4, 3, 4), (3, 3, 12)])
def test_each_image_stands_beside_truth_answer_and_mistakes(number, channels, num_classes, is_no_blank, written):
    masks = drawn_masks(number, num_classes)
    figure = images_with_masks(
        torch.randn(number, channels, 9, 12), masks, {"said": masks.flip(0)}, [f"$ {k}" for k in range(num_classes)]
    )
    assert written(figure.axes[0]) == ["image", "true", "said", "wrong"]
    mosaic = figure.axes[0].images[0].get_array()
    assert mosaic.shape == (number * (9 + 1), 4 * (12 + 1), 3)
    assert is_no_blank(figure)
    assert len(figure.legends[0].get_texts()) == min(8, num_classes)


def test_what_is_wrong_is_black_and_what_nobody_knows_is_not_wrong():
    true, said = torch.zeros(2, 1, 4, 4, dtype=torch.int64)
    true[0, 0, 0], true[0, 1, 1], said[0, 2, 2] = 255, 1, 1
    figure = images_with_masks(torch.rand(1, 3, 4, 4), true, {"said": said}, ["a", "b"])
    wrong = figure.axes[0].images[0].get_array()[1:, 3 * 5 + 1 :]
    places = [(y, x) for y in range(4) for x in range(4) if wrong[y, x].sum() == 0]
    assert places == [(1, 1), (2, 2)]


def test_without_the_truth_there_is_the_answer_alone(written):
    figure = images_with_masks(torch.rand(2, 3, 4, 4), None, {"said": torch.zeros(2, 4, 4)}, ["a", "b"])
    assert written(figure.axes[0]) == ["image", "said"]


def test_colours_differ_and_unknown_pixels_have_none_of_them():
    colours = palette(30)
    distances = torch.cdist(colours, colours) + torch.eye(30)
    assert distances.min() > 0.01
    assert (torch.cdist(palette(6), palette(6)) + torch.eye(6)).min() > 0.25
    shown = coloured(torch.tensor([[[0, 1, 255]]]), 2)[0, :, 0].T  # (3 pixels, 3)
    assert torch.equal(shown[:2], palette(2))
    assert not (shown[2] == palette(2)).all(1).any()


def test_a_mask_over_an_image_darkens_the_background_and_colours_the_rest():
    image = torch.rand(1, 3, 2, 2)
    image[0, :, 0, 0], image[0, :, 1, 1] = 0.0, 1.0
    over = mask_over(image, torch.tensor([[[0, 0], [1, 0]]]), 2, cover=1.0)
    torch.testing.assert_close(over[0, :, 0, 1], 0.6 * image[0, :, 0, 1])
    torch.testing.assert_close(over[0, :, 1, 0], palette(2)[1])
