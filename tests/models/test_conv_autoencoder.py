import itertools

import pytest
import torch
from torch import nn

from zoo.errors import UserError
from zoo.models.conv_autoencoder import ConvAutoencoder


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_every_size_comes_back_whether_it_halves_evenly_or_not(kernel_size):
    for height, width in itertools.product((1, 2, 3, 7, 8, 28), repeat=2):
        model = ConvAutoencoder(image_shape=[2, height, width], channels=[3, 4, 5], kernel_size=kernel_size)
        x = torch.rand(2, 2, height, width)
        codes = model.encode(x)
        assert codes.shape == (2, 8)
        assert model(x).shape == x.shape, (height, width)
        assert torch.equal(model(x), model.decode(codes))


def test_it_is_the_same_layers_in_torch(same_function):
    ours = ConvAutoencoder(
        image_shape=[1, 7, 8], channels=[2, 3], latent_size=4, activation="Tanh", output_activation="Sigmoid"
    )

    class Theirs(nn.Module):
        def __init__(self):
            super().__init__()
            down, up = {"stride": 2, "padding": 1}, {"stride": 2, "padding": 1, "output_padding": (0, 1)}
            self.encoder = nn.Sequential(
                nn.Conv2d(1, 2, 3, **down), nn.Tanh(), nn.Conv2d(2, 3, 3, **down), nn.Tanh(),
                nn.Flatten(), nn.Linear(12, 4),
            )  # fmt: skip
            self.decoder = nn.Sequential(
                nn.Linear(4, 12), nn.Tanh(), nn.Unflatten(1, (3, 2, 2)),
                nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1), nn.Tanh(),
                nn.ConvTranspose2d(2, 1, 3, **up), nn.Sigmoid(),
            )  # fmt: skip

        def forward(self, x):
            return self.decoder(self.encoder(x))

    same_function(nn.Sequential(ours, nn.Flatten()), nn.Sequential(Theirs(), nn.Flatten()), torch.rand(5, 1, 7, 8))


@pytest.mark.parametrize("activation", ["ReLU", "Tanh"])
def test_it_begins_with_outputs_of_the_size_of_what_goes_in(activation):
    """A signal that faded on the way would be learnt slowly, one that grew would be a large first loss."""
    torch.manual_seed(0)
    model = ConvAutoencoder(image_shape=[1, 28, 28], channels=[8, 16, 32], latent_size=30, activation=activation)
    x = torch.randn(64, 1, 28, 28)
    with torch.no_grad():
        codes = model.encode(x)
        said = model.decode(codes)
    assert 0.15 < codes.std().item() < 3
    assert 0.15 < said.std().item() < 3


@pytest.mark.parametrize(
    ("wrong", "told"),
    [({"kernel_size": 4}, "must be odd"), ({"channels": []}, "no convolution"), ({"activation": "Relu"}, "'ReLU'")],
)
def test_what_cannot_be_is_one_line(wrong, told):
    with pytest.raises(UserError, match=told):
        ConvAutoencoder(**({"image_shape": [1, 8, 8]} | wrong))
