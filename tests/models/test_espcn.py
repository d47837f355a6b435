import pytest
import torch
from torch import nn

from zoo.errors import UserError
from zoo.models.espcn import ESPCN


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("channels", "factor"), [(1, 2), (3, 3)])
def test_it_is_the_same_layers_in_torch(channels, factor):
    model = ESPCN(in_channels=channels, factor=factor, channels=(8, 6)).double()
    plain = nn.Sequential(model.conv1, nn.Tanh(), model.conv2, nn.Tanh(), model.conv3, nn.PixelShuffle(factor))
    small = randn(2, channels, 5, 4)
    repeated = small.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    torch.testing.assert_close(model(small), plain(small) + repeated)


def test_the_shuffle_is_that_of_the_paper():
    maps, factor = randn(1, 2 * 9, 4, 5), 3
    large = ESPCN(in_channels=2, factor=factor).shuffle(maps)
    for c, y, x in [(0, 0, 0), (1, 7, 4), (1, 11, 14)]:
        i, j, k, l = y // factor, x // factor, y % factor, x % factor  # noqa: E741 - as in the docstring
        assert large[0, c, y, x] == maps[0, c * factor**2 + factor * k + l, i, j]


def test_each_large_pixel_is_made_once_so_that_nothing_overlaps():
    """A transposed convolution whose kernel is as wide as its stride is the same: stamps side by side."""
    maps, factor = randn(1, 4, 3, 3), 2
    kernel = torch.eye(4, dtype=torch.float64).reshape(4, 1, factor, factor)
    stamped = torch.nn.functional.conv_transpose2d(maps, kernel, stride=factor)
    torch.testing.assert_close(nn.PixelShuffle(factor)(maps), stamped)


def test_two_layers_have_maps():
    with pytest.raises(UserError, match="maps of two layers"):
        ESPCN(in_channels=1, channels=(8,))
