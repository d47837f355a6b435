import torch
from matplotlib.patches import Rectangle

from zoo.metrics.boxes import Found
from zoo.pictures.boxes import images_with_boxes


def test_boxes_lie_on_their_own_image_in_the_row_of_who_says_so(is_no_blank, written):
    images = torch.randn(3, 3, 16, 16)
    nothing = Found(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long())
    true = [Found(torch.tensor([[2.0, 3, 8, 11]]), torch.ones(1), torch.tensor([0])), nothing, nothing]
    said = [nothing, nothing, Found(torch.tensor([[1.0, 0, 5, 4]]), torch.tensor([0.87]), torch.tensor([1]))]
    figure = images_with_boxes(images, {"true": true, "said": said}, ["a", "$b"])
    axis = figure.axes[0]
    assert written(axis) == ["true", "said", ".87"]
    boxes = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
    assert len(boxes) == 4  # each has a dark border
    assert (boxes[1].get_xy(), boxes[1].get_width(), boxes[1].get_height()) == ((1 - 0.5 + 2, 1 - 0.5 + 3), 6, 8)
    assert boxes[3].get_xy() == (2 * 17 + 1 - 0.5 + 1, 17 + 1 - 0.5)
    assert boxes[1].get_edgecolor() != boxes[3].get_edgecolor()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "$b"]
    assert is_no_blank(figure)
