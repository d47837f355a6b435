"""The readable forms of convolution are equal to the fast ones, and both are what they are said to be."""

import pytest
import torch
from torch.nn import functional as F

from zoo.scratch.convolution import Conv2d, convolution_by_loops, transposed_convolution_by_stamps


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def assert_same(found: torch.Tensor, expected: torch.Tensor, *leaves: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weight = torch.linspace(-1, 1, found.numel(), dtype=torch.float64).view_as(found)
    gradients = [torch.autograd.grad((y * weight).sum(), leaves) for y in (found, expected)]
    for own, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", [
    {}, {"stride": 2}, {"padding": 2}, {"dilation": 2}, {"groups": 2}, {"stride": 2, "padding": 1, "groups": 2},
])  # fmt: skip
@pytest.mark.parametrize("kernel", [(1, 1), (3, 2)])
def test_convolution_by_loops_is_torchs(options, kernel):
    x, weight, bias = randn(2, 4, 5, 6), randn(4, 4 // options.get("groups", 1), *kernel, seed=1), randn(4, seed=2)
    assert_same(convolution_by_loops(x, weight, bias, **options), F.conv2d(x, weight, bias, **options), x, weight, bias)
    assert_same(convolution_by_loops(x, weight, **options), F.conv2d(x, weight, **options), x, weight)


@pytest.mark.parametrize("options", [
    {}, {"stride": 2}, {"stride": 3, "padding": 1}, {"dilation": 2}, {"stride": 2, "padding": 1, "dilation": 2},
])  # fmt: skip
def test_transposed_convolution_stamps_the_kernel_once_for_each_pixel(options):
    x, weight = randn(2, 3, 3, 4), randn(3, 2, 3, 2, seed=1)
    found = transposed_convolution_by_stamps(x, weight, **options)
    assert_same(found, F.conv_transpose2d(x, weight, **options), x, weight)


def test_one_pixel_gives_one_stamp():
    x, weight = torch.zeros(1, 1, 2, 2), torch.arange(9.0).reshape(1, 1, 3, 3)
    x[0, 0, 1, 0] = 2.0
    expected = torch.zeros(1, 1, 5, 5)
    expected[0, 0, 2:5, 0:3] = 2 * weight[0, 0]
    assert torch.equal(transposed_convolution_by_stamps(x, weight, stride=2), expected)


@pytest.mark.parametrize("stride", [1, 2])
def test_transposed_convolution_is_the_gradient_of_convolution_and_not_its_inverse(stride):
    x, weight = randn(1, 2, 5, 5), randn(3, 2, 3, 3, seed=1)
    y = F.conv2d(x, weight, stride=stride)
    (gradient,) = torch.autograd.grad(y, x, grad_outputs=y)
    back = transposed_convolution_by_stamps(y, weight, stride=stride)
    torch.testing.assert_close(back, gradient, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(back, x, atol=0.1)


def test_nothing_is_flipped():
    x, kernel = torch.zeros(1, 1, 1, 3), torch.tensor([[[[1.0, 0.0, 0.0]]]])
    x[..., 0] = 5.0
    assert convolution_by_loops(x, kernel).item() == 5.0


def test_sobels_kernel_answers_at_an_edge_alone_and_a_blur_keeps_what_is_even():
    sobel = torch.tensor([[[[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]]])
    blur = torch.full((1, 1, 3, 3), 1 / 9)
    even, edge = torch.full((1, 1, 6, 6), 5.0), torch.zeros(1, 1, 6, 6)
    edge[..., 3:] = 5.0
    assert convolution_by_loops(even, sobel).abs().max().item() == 0.0
    # Four times the height of the step, wherever the kernel lies over it.
    assert convolution_by_loops(edge, sobel)[0, 0, 0].tolist() == [0.0, 20.0, 20.0, 0.0]
    torch.testing.assert_close(convolution_by_loops(even, blur), torch.full((1, 1, 4, 4), 5.0))
    assert convolution_by_loops(edge.mT, sobel).abs().max().item() == 0.0, "it is for edges that stand upright"


def test_a_kernel_that_the_stride_does_not_divide_stamps_a_checkerboard():
    """Odena, Dumoulin, Olah 2016: how often each output pixel is stamped, away from the border."""
    found = {}
    for kernel_size in (3, 4):
        stamps = transposed_convolution_by_stamps(
            torch.ones(1, 1, 5, 5), torch.ones(1, 1, kernel_size, kernel_size), stride=2
        )
        found[kernel_size] = stamps[0, 0, 4:6, 4:6].tolist()
    assert found[3] == [[4.0, 2.0], [2.0, 1.0]]
    assert found[4] == [[4.0, 4.0], [4.0, 4.0]]


@pytest.mark.parametrize("n", [1, 7, 8, 10])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_same_padding_makes_ceil_n_over_s(n, kernel_size, stride):
    layer = Conv2d(1, 1, kernel_size, padding="same", dilation=2)
    layer.stride = (stride, 1)  # torch's constructor refuses it
    assert layer(torch.zeros(1, 1, n, n)).shape == (1, 1, -(-n // stride), n)
