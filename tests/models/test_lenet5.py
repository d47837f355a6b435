import pytest
import torch
from torch import nn

from zoo.errors import UserError
from zoo.models.lenet5 import LeNet5

KEYS = [f"{layer}.{kind}" for layer in ("c1", "c3", "c5", "f6", "output") for kind in ("weight", "bias")]


def twin(activation: type[nn.Module], pooling: type[nn.Module], channels: int, size: int, classes: int, padding: int):
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=padding), activation(), pooling(2),
        nn.Conv2d(6, 16, 5), activation(), pooling(2), nn.Flatten(),
        nn.Linear(16 * size * size, 120), activation(), nn.Linear(120, 84), activation(), nn.Linear(84, classes),
    ).double()  # fmt: skip


@pytest.mark.parametrize(
    ("activation", "pooling"), [("Sigmoid", "AvgPool2d"), ("Tanh", "AvgPool2d"), ("ReLU", "MaxPool2d")]
)
@pytest.mark.parametrize(
    ("in_channels", "image_size", "padding", "after_s4"), [(1, 28, 2, 5), (1, 32, 0, 5), (3, 32, 2, 6), (1, 12, 2, 1)]
)
def test_equals_the_same_layers_in_torch_forward_and_backward(
    in_channels, image_size, padding, after_s4, activation, pooling
):
    model = LeNet5(in_channels=in_channels, image_size=image_size, num_classes=10, padding=padding,
                   activation=activation, pooling=pooling).double()  # fmt: skip
    other = twin(getattr(nn, activation), getattr(nn, pooling), in_channels, after_s4, 10, padding)
    other.load_state_dict(dict(zip(other.state_dict(), model.state_dict().values(), strict=True)))
    generator = torch.Generator().manual_seed(0)
    shape = (4, in_channels, image_size, image_size)
    images = [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()]
    images.append(images[0].detach().clone().requires_grad_())
    outputs = model(images[0]), other(images[1])
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-12)
    for output in outputs:
        nn.functional.cross_entropy(output, torch.arange(4)).backward()
    torch.testing.assert_close(images[0].grad, images[1].grad, rtol=0, atol=1e-12)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert ours.grad.abs().sum() > 0
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-12)


def test_has_61706_parameters_on_28_grey_pixels_and_10_classes():
    model = LeNet5(in_channels=1, image_size=28, num_classes=10)
    assert sum(p.numel() for p in model.parameters()) == 61_706


@pytest.mark.parametrize(
    ("image_size", "padding", "sizes"),
    [(28, 2, (28, 14, 10, 5)), (32, 0, (28, 14, 10, 5)), (32, 2, (32, 16, 12, 6)), (29, 2, (29, 14, 10, 5))],
)
def test_maps_have_the_sizes_of_figure_2(image_size, padding, sizes):
    model = LeNet5(in_channels=1, image_size=image_size, num_classes=7, padding=padding)
    shapes = {}
    for name in ("c1", "s2", "c3", "s4", "c5", "f6"):
        getattr(model, name).register_forward_hook(lambda m, i, o, name=name: shapes.update({name: tuple(o.shape[1:])}))
    assert model(torch.zeros(2, 1, image_size, image_size)).shape == (2, 7)
    maps = dict(zip(("c1", "s2", "c3", "s4"), zip((6, 6, 16, 16), sizes, strict=True), strict=True))
    assert shapes == {name: (c, n, n) for name, (c, n) in maps.items()} | {"c5": (120,), "f6": (84,)}


@pytest.mark.parametrize(("padding", "smallest"), [(0, 16), (2, 12)])
def test_the_smallest_image_works_and_one_pixel_less_is_refused_with_that_size(padding, smallest):
    model = LeNet5(in_channels=1, image_size=smallest, num_classes=2, padding=padding)
    assert model(torch.zeros(1, 1, smallest, smallest)).shape == (1, 2)
    with pytest.raises(UserError, match=f"at least {smallest} pixels a side; these have {smallest - 1}"):
        LeNet5(in_channels=1, image_size=smallest - 1, num_classes=2, padding=padding)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"pooling": "AvgPool"}, "did you mean 'AvgPool2d'"), ({"activation": "tanh"}, "did you mean 'Tanh'")],
)
def test_a_misspelt_name_gets_a_did_you_mean(wrong, message):
    with pytest.raises(UserError, match=message):
        LeNet5(in_channels=1, image_size=28, num_classes=10, **wrong)


@pytest.mark.parametrize("pooling", ["AvgPool2d", "MaxPool2d"])
def test_checkpoint_keys_are_the_names_of_the_paper_whatever_the_variant(pooling):
    model = LeNet5(in_channels=1, image_size=28, num_classes=10, pooling=pooling)
    assert list(model.state_dict()) == KEYS
