import pytest
import torch
from torch import nn
from torch.nn import functional

from zoo.errors import UserError
from zoo.models.srcnn import SRCNN


@pytest.mark.parametrize(("channels", "factor"), [(1, 2), (3, 3)])
def test_it_is_the_same_layers_in_torch(channels, factor):
    model = SRCNN(in_channels=channels, factor=factor, channels=(8, 6)).double()
    plain = nn.Sequential(model.conv1, nn.ReLU(), model.conv2, nn.ReLU(), model.conv3)
    small = torch.randn(2, channels, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    large = functional.interpolate(small, (5 * factor, 4 * factor), mode="bicubic")
    torch.testing.assert_close(model(small), large + plain(large))


def test_the_published_kernels_are_the_default():
    sizes = [tuple(p.shape) for name, p in SRCNN(in_channels=1).named_parameters() if name.endswith("weight")]
    assert sizes == [(64, 1, 9, 9), (32, 64, 1, 1), (1, 32, 5, 5)]


@pytest.mark.parametrize("wrong", [{"kernel_sizes": (9, 2, 5)}, {"kernel_sizes": (9, 5)}, {"channels": (8,)}])
def test_what_does_not_fit_is_refused(wrong):
    with pytest.raises(UserError, match=r"use \[9,1,5\]"):
        SRCNN(in_channels=1, **wrong)
