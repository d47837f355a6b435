import pytest
import torch

from zoo.pictures.attention import LONGEST, MOST_LABELS, alignment, heads, label, of_layers, over_image

SOURCE, TARGET = [" ein", " Haus", "<eos>"], ["a", " house", ".", "<eos>"]


def weights(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).softmax(-1)


def ticks(axis):
    return [[text.get_text() for text in labels] for labels in (axis.get_xticklabels(), axis.get_yticklabels())]


def values(axis):
    return torch.tensor(axis.images[0].get_array().tolist())


def test_a_row_is_a_step_of_the_target_and_its_tokens_stand_on_the_axes(is_no_blank):
    shown = weights(4, 3)
    figure = alignment(shown, SOURCE, TARGET, "a title with $ and ^")
    assert is_no_blank(figure)
    assert values(figure.axes[0]).equal(shown)
    assert ticks(figure.axes[0]) == [["▁ein", "▁Haus", "<eos>"], ["a", "▁house", ".", "<eos>"]]
    assert figure.axes[0].get_title() == "a title with $ and ^"
    low, _ = figure.axes[0].images[0].get_clim()
    assert low == 0, "what is not looked at is white"


@pytest.mark.parametrize("num_heads", [1, 3, 8, 9])
def test_heads_share_one_scale_and_stand_in_their_order(num_heads, drawn):
    shown = weights(num_heads, 4, 3)
    figure = heads(shown, SOURCE, TARGET, "layer")
    drawn(figure)
    axes = [axis for axis in figure.axes if axis.images]
    assert torch.stack([values(axis) for axis in axes]).equal(shown)
    assert [axis.get_xlabel() for axis in axes] == [f"head {i + 1}" for i in range(num_heads)]
    assert {axis.images[0].get_clim() for axis in axes} == {(0, float(shown.max()))}
    assert ticks(axes[0])[1] == ["a", "▁house", ".", "<eos>"]


def test_of_several_layers_the_mean_and_the_heads_of_the_last_one_are_drawn():
    layers = {"first": weights(2, 4, 3), "last": weights(2, 4, 3, seed=1)}
    found = of_layers(layers, SOURCE, TARGET)
    mean = torch.cat(list(layers.values())).mean(0)
    torch.testing.assert_close(values(found["attention"].axes[0]), mean)
    assert values(found["heads"].axes[1]).equal(layers["last"][1])
    alone = of_layers({"alignment": weights(1, 4, 3)}, SOURCE, TARGET)
    assert set(alone) == {"attention"}
    assert alone["attention"].axes[0].get_title() == "alignment"


def test_of_a_long_sequence_some_tokens_are_named_each_at_its_place(drawn):
    tokens = [str(i) for i in range(200)]
    figure = alignment(weights(200, 200), tokens, tokens)
    drawn(figure)
    axis = figure.axes[0]
    assert len(axis.get_xticks()) <= MOST_LABELS
    assert ticks(axis)[0] == [str(place) for place in axis.get_xticks()]


@pytest.mark.parametrize(
    ("token", "told"),
    [
        (" a", "▁a"),
        (" ", "▁"),
        ("\n", "⏎"),
        ("ü", "ü"),
        ("中文", "□□"),
        ("x" * 99, "x" * (LONGEST - 1) + "…"),
        ("", ""),
    ],
)
def test_a_token_is_drawn_as_far_as_the_font_goes(token, told, drawn):
    assert label(token) == told
    drawn(alignment(weights(1, 1), [token], ["$^_{"]))


def test_single_letters_stand_upright_and_words_are_turned():
    axis = alignment(weights(1, 2), ["a", "<eos>"], ["a"]).axes[0]
    assert [text.get_rotation() for text in axis.get_xticklabels()] == [0, 90]


@pytest.mark.parametrize("size", [(8, 8), (8, 16)])
def test_each_word_has_the_image_with_the_places_it_looked_at(size, drawn):
    height, width = size
    image, shown = torch.rand(3, *size), torch.zeros(2, height * width // 16)
    shown[0, 0], shown[1, -1] = 1, 1  # the first place is at the top left, the last at the bottom right
    figure = over_image(image, shown, ["first", "last"])
    drawn(figure)
    pictures = [torch.tensor(axis.images[0].get_array().tolist()) for axis in figure.axes]  # (H, W, 3) each
    assert [axis.get_title() for axis in figure.axes] == ["", "first", "last"]
    for picture, (row, column), (far_row, far_column) in (
        (pictures[1], (0, 0), (-1, -1)), (pictures[2], (-1, -1), (0, 0))
    ):  # fmt: skip
        assert picture[row, column, 0] > 0.8 > 0.2 > picture[row, column, 2], "yellow"
        assert picture[far_row, far_column].std() < 1e-6, "grey"
