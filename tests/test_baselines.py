"""What a recipe without a published number is compared with: closed forms, computed here from the data alone.

A recipe names the number, `published.value`; these tests say where it comes from.
"""

import os

import pytest
import torch
from torch import Tensor

from zoo.data.mnist import FashionMnist
from zoo.metrics.generative import parzen
from zoo.reproduction.provenance import recipe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("ZOO_DATA"), reason="ZOO_DATA names no folder with the data sets"),
]


@pytest.fixture(scope="module")
def clothes() -> tuple[Tensor, ...]:
    """Training part (60000, 784) and test part (10000, 784), in [0, 1]."""
    parts = FashionMnist(data_dir=os.environ["ZOO_DATA"], val_size=0, normalize=False).read()
    return tuple(parts[part][0].flatten(1).double() / 255 for part in ("train", "test"))


def limit(name: str) -> float:
    return float(recipe(name)["published"]["value"])


def test_principal_components_of_the_clothes(clothes):
    train, test = clothes
    mean = train.mean(0)
    _, vectors = torch.linalg.eigh(torch.cov(train.T))  # ascending
    kept = vectors[:, -recipe("autoencoder_fashion_mnist")["model"]["latent_size"] :]
    left = test - mean - (test - mean) @ kept @ kept.T
    error = left.square().sum(1).mean().item()
    assert error == pytest.approx(12.243, abs=1e-3)
    assert limit("autoencoder_fashion_mnist") == pytest.approx(error, abs=0.01)


def test_a_bernoulli_for_each_pixel_of_the_clothes(clothes):
    train, test = clothes
    mean = train.mean(0).clamp(1e-6, 1 - 1e-6)
    nats = -(torch.xlogy(test, mean) + torch.xlogy(1 - test, 1 - mean)).sum(1).mean().item()
    assert nats == pytest.approx(385.018, abs=1e-3)
    assert limit("vae_fashion_mnist") == pytest.approx(nats, abs=0.1)


def test_grey_levels_have_an_entropy_that_no_decoder_gets_below(clothes):
    _, test = clothes
    nats = -(torch.xlogy(test, test) + torch.xlogy(1 - test, 1 - test)).sum(1).mean().item()
    assert nats == pytest.approx(189.858, abs=1e-3)
    assert nats < limit("vae_fashion_mnist")


def test_samples_of_one_gaussian_and_training_images_seen_through_a_parzen_window(clothes):
    """The 10,000 samples that one Gaussian draws, cut to [0, 1], and as many training images: floor and ceiling."""
    train, test = clothes
    fit, validation = train[:50000], train[50000:]
    generator = torch.Generator().manual_seed(0)
    factor = torch.linalg.cholesky(torch.cov(fit.T) + 1e-6 * torch.eye(784, dtype=torch.double))
    drawn = fit.mean(0) + torch.randn(10000, 784, generator=generator, dtype=torch.double) @ factor.T
    floor = parzen(drawn.clamp(0, 1), validation, test).mean
    ceiling = parzen(fit[torch.randperm(50000, generator=generator)[:10000]], validation, test).mean
    assert floor == pytest.approx(119.27, abs=0.5)
    assert ceiling == pytest.approx(356.1, abs=1.0)
    assert limit("dcgan_fashion_mnist") == pytest.approx(floor, abs=0.5)
