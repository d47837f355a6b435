import random

import pytest
import torch
from torch import nn

from zoo.errors import UserError
from zoo.layers.convolution import Conv1d, Conv2d
from zoo.layers.window import same_padding

LAYERS = [(Conv1d, nn.Conv1d, (17,)), (Conv2d, nn.Conv2d, (13, 14))]


def settings(seed, axes):
    """Random kernel, stride and dilation for each axis, and sizes, even kernels among them."""
    draw = random.Random(seed)
    each = [tuple(draw.randint(1, most) for _ in range(axes)) for most in (7, 5, 3, 40)]
    if axes == 1:
        return (*(value[0] for value in each[:3]), each[3])
    return tuple(each)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("ours", [Conv1d, Conv2d])
def test_same_gives_n_over_s_rounded_up_whatever_kernel_stride_and_dilation(ours, seed):
    for extra in range(15):
        kernel, stride, dilation, size = settings(100 * seed + extra, 1 if ours is Conv1d else 2)
        layer = ours(1, 1, kernel, stride=stride, padding="same", dilation=dilation)
        steps = layer.stride
        expected = tuple(-(-n // s) for n, s in zip(size, steps, strict=True))
        assert layer(torch.zeros(1, 1, *size)).shape[2:] == expected
        assert tuple(layer.output_size(n, axis) for axis, n in enumerate(size)) == expected


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("padding", ["same", "valid", 0, 2])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize(("ours", "theirs", "size"), LAYERS)
def test_equals_torch_forward_and_backward_at_stride_1(ours, theirs, size, dilation, kernel, padding):
    layer = ours(3, 4, kernel, padding=padding, dilation=dilation).double()
    twin = theirs(3, 4, kernel, padding=padding, dilation=dilation).double()
    twin.load_state_dict(layer.state_dict())
    x = torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [net(one) for net, one in zip((layer, twin), inputs, strict=True)]
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-12)
    for output in outputs:
        output.square().sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=0, atol=1e-11)
    torch.testing.assert_close(layer.weight.grad, twin.weight.grad, rtol=0, atol=1e-10)
    torch.testing.assert_close(layer.bias.grad, twin.bias.grad, rtol=0, atol=1e-10)


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize(("ours", "theirs", "size"), LAYERS)
def test_equals_torch_at_any_stride_for_a_number_and_for_valid(ours, theirs, size, stride):
    for padding, number in ((1, 1), ("valid", 0)):
        layer = ours(3, 6, 4, stride=stride, padding=padding, groups=3, bias=False)
        twin = theirs(3, 6, 4, stride=stride, padding=number, groups=3, bias=False)
        twin.load_state_dict(layer.state_dict())
        x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
        assert torch.equal(layer(x), twin(x))


def test_same_with_a_stride_is_a_valid_convolution_of_the_padded_image():
    layer = Conv2d(1, 1, 4, stride=3, padding="same")
    x = torch.randn(1, 1, 8, 9, generator=torch.Generator().manual_seed(0))
    # 8 rows need ceil(8 / 3) = 3 places, so (3 - 1) 3 + 4 - 8 = 2 zeros; 9 columns need 1, on the right
    padded = nn.functional.pad(x, (0, 1, 1, 1))
    assert torch.equal(layer(x), nn.functional.conv2d(padded, layer.weight, layer.bias, stride=3))


@pytest.mark.parametrize(
    ("n", "kernel_size", "stride", "dilation", "sides"),
    [
        (10, 3, 1, 1, (1, 1)),
        (10, 4, 1, 1, (1, 2)),  # the odd one comes after
        (10, 2, 1, 3, (1, 2)),
        (10, 3, 2, 1, (0, 1)),
        (9, 3, 2, 1, (1, 1)),
        (10, 1, 4, 1, (0, 0)),  # never below none
    ],
)
def test_zeros_stand_where_the_definition_puts_them(n, kernel_size, stride, dilation, sides):
    assert same_padding(n, kernel_size, stride, dilation) == sides


def test_neither_valid_nor_same_changes_the_number_of_parameters():
    count = [sum(p.numel() for p in Conv2d(3, 8, 5, padding=padding).parameters()) for padding in ("same", "valid", 3)]
    assert count == [608] * 3


def test_takes_the_weights_of_torchs_layer_and_gives_its_own():
    assert list(Conv2d(1, 2, 3, padding="same", stride=2).state_dict()) == ["weight", "bias"]


def test_a_layer_that_pads_by_the_size_of_its_input_says_so():
    assert "padding='same'" in str(Conv2d(1, 1, 3, stride=2, padding="same"))
    assert "padding=(1, 1)" in str(Conv2d(1, 1, 3, padding="same"))


def test_a_misspelt_padding_gets_a_did_you_mean():
    with pytest.raises(UserError, match="did you mean 'same'"):
        Conv2d(1, 1, 3, padding="sane")
