import pytest
import torch
from torch import nn

from zoo.errors import UserError
from zoo.models.cnn import CNN

SHAPE = {"in_channels": 1, "image_size": 28, "num_classes": 10}


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def equal(model: nn.Module, twin: nn.Module, shape: tuple[int, ...]) -> None:
    """The same outputs and gradients in float64, once the weights are the same, in training and in evaluation."""
    model, twin = model.double(), twin.double()
    twin.load_state_dict(dict(zip(twin.state_dict(), model.state_dict().values(), strict=True)))
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for mode in (True, False):
        outputs = [net.train(mode)(x) for net in (model, twin)]
        torch.testing.assert_close(*outputs, rtol=0, atol=1e-11)
    for output in outputs:
        output.square().sum().backward()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-11)


def test_by_default_it_is_the_net_of_83466_parameters_at_28_grey_pixels_and_10_classes():
    model = CNN(**SHAPE)
    assert count(model) == 83_466
    twin = nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64 * 7 * 7, 10),
    )  # fmt: skip
    equal(model, twin, (3, 1, 28, 28))


def test_equals_torch_with_norm_before_strides_dilation_and_global_average():
    model = CNN(
        in_channels=3, image_size=21, num_classes=4, channels=[4, 6], kernel_size=[3, 2], stride=[2, 1], padding=[0, 1],
        dilation=[1, 2], activation="Tanh", batch_norm="before", pooling=None, global_pooling="avg",
        hidden_features=[5],
    )  # fmt: skip
    twin = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, bias=False), nn.BatchNorm2d(4), nn.Tanh(),
        nn.Conv2d(4, 6, 2, padding=1, dilation=2, bias=False), nn.BatchNorm2d(6), nn.Tanh(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4),
    )  # fmt: skip
    equal(model, twin, (3, 3, 21, 21))


def test_equals_torch_with_norm_after_average_pooling_and_global_maximum():
    model = CNN(
        in_channels=1, image_size=16, num_classes=3, channels=[4, 6], kernel_size=3, batch_norm="after",
        activation="GELU", pooling="AvgPool2d", pool_size=[1, 3], global_pooling="max", output_activation="Softmax",
    )  # fmt: skip
    twin = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.GELU(), nn.BatchNorm2d(4),
        nn.Conv2d(4, 6, 3, padding=1), nn.GELU(), nn.BatchNorm2d(6), nn.AvgPool2d(3),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(6, 3), nn.Softmax(1),
    )  # fmt: skip
    equal(model, twin, (3, 1, 16, 16))


@pytest.mark.parametrize("padding", ["same", "valid", 0, 3])
@pytest.mark.parametrize("stride", [1, 2, [3, 1]])
@pytest.mark.parametrize("pooling", [None, "MaxPool2d", "AvgPool2d"])
@pytest.mark.parametrize("image_size", [40, 43])
def test_the_dense_layer_fits_whatever_the_blocks_leave(image_size, pooling, stride, padding):
    model = CNN(in_channels=2, image_size=image_size, num_classes=5, channels=[3, 4], kernel_size=4, stride=stride,
                padding=padding, pooling=pooling)  # fmt: skip
    assert model(torch.zeros(2, 2, image_size, image_size)).shape == (2, 5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"padding": "valid", "kernel_size": [5, 13]}, r"blocks\.1\.conv reaches over 13 pixels a side and gets 12"),
        ({"padding": 1, "kernel_size": 8, "dilation": 5}, r"blocks\.0\.conv reaches over 36 pixels a side and gets 30"),
        ({"stride": 7, "pool_size": 3}, r"blocks\.1\.pool pools 3 pixels a side and gets 1"),
    ],
)
def test_settings_that_leave_no_pixel_are_refused_by_the_name_of_the_layer(settings, message):
    with pytest.raises(UserError, match=message) as error:
        CNN(**SHAPE, **settings)
    assert "\n" not in str(error.value)


def test_the_largest_kernel_that_fits_works():
    model = CNN(**SHAPE, padding="valid", kernel_size=[5, 12], pool_size=[2, 1])
    assert model(torch.zeros(1, 1, 28, 28)).shape == (1, 10)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pooling": "maxpool2d"}, "did you mean 'MaxPool2d'"),
        ({"global_pooling": "average"}, "There is: avg, max, null"),
        ({"batch_norm": "befor"}, "did you mean 'before'"),
        ({"padding": "sam"}, "did you mean 'same'"),
        ({"activation": "relu"}, "did you mean 'ReLU'"),
        ({"output_activation": "softmax"}, "did you mean 'Softmax'"),
        ({"stride": [1, 2, 3]}, r"model\.stride has 3 values and model\.channels 2 blocks"),
    ],
)
def test_a_wrong_setting_is_one_line_that_says_what_would_do(wrong, message):
    with pytest.raises(UserError, match=message) as error:
        CNN(**SHAPE, **wrong)
    assert "\n" not in str(error.value)


def test_probabilities_are_declared_and_sum_to_1_over_the_classes():
    model = CNN(**SHAPE, output_activation="Softmax")
    outputs = model(torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(outputs.sum(1), torch.ones(4))
    assert model.gives_probabilities
    assert not CNN(**SHAPE).gives_probabilities


def test_dropout_acts_in_training_alone_and_has_no_weights():
    model = CNN(**SHAPE, dropout=0.5, block_dropout=0.2, hidden_features=[20])
    assert [module.p for module in model.modules() if isinstance(module, nn.Dropout)] == [0.2, 0.2, 0.5, 0.5]
    each = CNN(**SHAPE, block_dropout=[0.0, 0.3])
    assert [module.p for module in each.blocks.modules() if isinstance(module, nn.Dropout)] == [0.3]
    x = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))
    assert count(model) == count(CNN(**SHAPE, hidden_features=[20]))


def test_activations_keep_their_size_from_block_to_block_at_the_start():
    torch.manual_seed(0)
    model = CNN(in_channels=3, image_size=16, num_classes=10, channels=[32] * 12, kernel_size=3, pooling=None)
    sizes = []
    for block in model.blocks:
        block.conv.register_forward_hook(lambda m, i, o: sizes.append(o.std().item()))
    model(torch.randn(8, 3, 16, 16))
    assert 0.3 < sizes[-1] / sizes[0] < 3  # with torch's own initialization it is below 0.001


def test_without_blocks_it_is_linear():
    model = CNN(**SHAPE, channels=[])
    assert count(model) == 7850
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
