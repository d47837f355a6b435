import pytest
import torch

from zoo.pictures.codes import code_map, reconstructions, rows_said_again


def test_each_row_has_its_images_on_the_scale_of_the_first():
    x = torch.tensor([0.0, 2.0]).view(1, 1, 1, 2).expand(3, 1, 4, 2)
    figure = reconstructions({"input": x, "reconstruction": x * 10 - 4})
    (image,) = figure.axes[0].images
    mosaic = torch.from_numpy(image.get_array().data)
    assert mosaic.shape == (2 * (4 + 1), 3 * (2 + 1), 3)
    tiles = mosaic[..., 0].reshape(2, 5, 3, 3)[:, 1:, :, 1:]  # (row, height, image, width)
    assert (tiles[..., 0] == 0).all()
    assert (tiles[..., 1] == 1).all(), "what is beyond the scale is cut off"
    assert [text.get_text() for text in figure.axes[0].texts] == ["input", "reconstruction"]


def test_colours_stay_and_what_is_no_number_is_drawn():
    x = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    x[0, :, 0, 0], x[1, :, 0, 0] = 0, 1
    figure = reconstructions({"input": x, "reconstruction": torch.full_like(x, torch.nan)})
    mosaic = torch.from_numpy(figure.axes[0].images[0].get_array().data)
    torch.testing.assert_close(mosaic[1:5, 1:5], x[0].permute(1, 2, 0))


def test_a_table_has_a_panel_for_each_of_its_first_columns():
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    figure = rows_said_again(x, 2 * x)
    panels = [axis for axis in figure.axes if axis.axison]
    assert len(panels) == 4
    for column, axis in enumerate(panels):
        points = torch.as_tensor(axis.collections[0].get_offsets().data, dtype=torch.float32)
        torch.testing.assert_close(points, torch.stack([x[:, column], 2 * x[:, column]], 1))
    assert len([a for a in rows_said_again(torch.rand(3, 9), torch.full((3, 9), torch.nan)).axes if a.axison]) == 6


def test_a_map_has_a_colour_for_each_class_and_the_rest_in_grey():
    points, labels = torch.rand(100, 2), torch.arange(100) % 25
    figure = code_map(points, labels, [f"${k}" for k in range(25)], title="two codes")
    groups = figure.axes[0].collections
    assert [len(group.get_offsets()) for group in groups] == [4] * 20 + [20]
    assert groups[0].get_offsets().data == pytest.approx(points[labels == 0].numpy())
    assert [text.get_text() for text in figure.legends[0].get_texts()][-2:] == ["$19", "others"]
    figure.canvas.draw()
    few = code_map(points[:4], torch.tensor([7, 7, 3, 3]), [], title="")
    assert [text.get_text() for text in few.legends[0].get_texts()] == ["3", "7"]


@pytest.mark.parametrize("targets", [torch.arange(6.0), torch.arange(12.0).view(6, 2)], ids=["(N,)", "(N, K)"])
def test_quantities_are_shades(targets):
    figure = code_map(torch.rand(6, 2), targets, ["$price"], title="two codes")
    assert figure.axes[0].collections[0].get_array().tolist() == targets.reshape(6, -1)[:, 0].tolist()
    assert figure.axes[1].get_ylabel() == "$price"
    figure.canvas.draw()
