import pytest
import torch
from torch import nn

from zoo.errors import UserError
from zoo.models.unet import UNet


def block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
        nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
    )  # fmt: skip


class Theirs(nn.Module):
    """The figure of the paper with three sizes, layer by layer."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([block(2, 4), block(4, 6), block(6, 8)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(8, 6, 2, stride=2), nn.ConvTranspose2d(6, 4, 2, stride=2)])
        self.merge = nn.ModuleList([block(12, 6), block(8, 4)])
        self.classify = nn.Conv2d(4, 3, 1)

    def forward(self, x):
        large = self.down[0](x)
        middle = self.down[1](nn.functional.max_pool2d(large, 2))
        small = self.down[2](nn.functional.max_pool2d(middle, 2))
        middle = self.merge[0](torch.cat([middle, self.up[0](small)], 1))
        large = self.merge[1](torch.cat([large, self.up[1](middle)], 1))
        return self.classify(large)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (12, 20)])
def test_it_is_the_same_layers_in_torch(same_function, height, width):
    ours, theirs = UNet(in_channels=2, num_classes=3, channels=[4, 6, 8]), Theirs()
    x = torch.randn(5, 2, height, width, generator=torch.Generator().manual_seed(0))
    same_function(nn.Sequential(ours, nn.Flatten()), nn.Sequential(theirs, nn.Flatten()), x)


@pytest.mark.parametrize("size", [(4, 4), (5, 7), (13, 6), (48, 47)])
def test_the_answer_has_the_size_of_the_image_whether_it_halves_evenly_or_not(size):
    model = UNet(in_channels=1, num_classes=5, channels=[3, 4, 5])
    assert model(torch.rand(2, 1, *size)).shape == (2, 5, *size)


def test_a_pixel_is_seen_from_near_and_from_far():
    """The way up knows the pixel itself from the way down beside it, and what lies far away from the smallest maps."""
    torch.manual_seed(0)
    model = UNet(in_channels=1, num_classes=2, channels=[4, 4, 4]).double().eval()
    x = torch.randn(1, 1, 32, 32, dtype=torch.float64, requires_grad=True)
    model(x)[0, 0, 16, 16].backward()
    reached = torch.nonzero(x.grad[0, 0])
    assert (reached.amax(0) - reached.amin(0)).min() > 24
    with torch.no_grad():
        for grow in model.up:
            grow.weight.zero_()
    x.grad = None
    model(x)[0, 0, 16, 16].backward()
    reached = torch.nonzero(x.grad[0, 0])  # four convolutions of 3 x 3 are left
    assert (reached.amax(0) - reached.amin(0)).max() == 8


def test_signals_keep_their_size_on_the_way():
    torch.manual_seed(0)
    model = UNet(in_channels=3, num_classes=4).eval()
    with torch.no_grad():
        assert 0.3 < model(torch.randn(8, 3, 48, 48)).std().item() < 10


def test_sizes_that_do_not_go_are_one_line():
    with pytest.raises(UserError, match="two sizes or more"):
        UNet(in_channels=1, num_classes=2, channels=[4])
    with pytest.raises(UserError, match="too small to be halved 2 times"):
        UNet(in_channels=1, num_classes=2, channels=[4, 4, 4])(torch.rand(1, 1, 3, 9))
