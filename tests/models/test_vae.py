"""The variational autoencoder: shapes, labels, what it samples, and probabilistic PCA where it is linear."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from zoo.errors import UserError
from zoo.models.vae import VAE

SHAPE, ROWS = (1, 4, 6), 5


def vae(**settings):
    torch.manual_seed(0)
    return VAE(**({"in_features": 24, "hidden_features": [16, 8], "latent_size": 3} | settings))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("settings", [{"image_shape": SHAPE}, {}], ids=["images", "rows"])
@pytest.mark.parametrize("num_classes", [None, 4])
@pytest.mark.parametrize("widths", [[], [16, 8]], ids=["linear", "deep"])
def test_everything_has_the_shape_that_it_is_told_to_have(settings, num_classes, widths):
    model = vae(num_classes=num_classes, hidden_features=widths, **settings)
    x = torch.rand(ROWS, *model.shape)
    label = torch.arange(ROWS) % 4 if num_classes else None
    mean, log_var = model.encode(x, label)
    assert mean.shape == log_var.shape == (ROWS, 3)
    assert model.decode(mean, label).shape == x.shape
    assert model.decode(torch.zeros(ROWS, 7, 3), label).shape == (ROWS, 7, *model.shape)
    output = model(x, label)
    torch.testing.assert_close(output.output, model.decode(mean, label))
    assert model.sample(9, generator=generator()).shape == (9, *model.shape)
    assert model.latent(9, generator=generator()).shape == (9, 3)


def test_samples_of_images_are_levels_between_0_and_1_and_those_of_one_seed_are_the_same():
    for likelihood in ("bernoulli", "gaussian"):
        model = vae(image_shape=SHAPE, likelihood=likelihood)
        model.output.bias.data.fill_(3.0)
        model.output.bias.data[0] = -3.0
        first, again = (model.sample(6, generator=generator(1)) for _ in range(2))
        assert torch.equal(first, again)
        assert 0 <= first.min() < 0.2
        assert 0.9 < first.max() <= 1
        assert not torch.equal(first, model.sample(6, generator=generator(2)))
        assert not first.requires_grad


def test_the_likelihood_follows_from_the_data_and_its_width_is_fixed_or_learnt():
    assert vae(image_shape=SHAPE).likelihood == "bernoulli"
    assert not hasattr(vae(image_shape=SHAPE), "output_log_var")
    fixed, learnt = vae(std=0.5), vae(std=0.5, learn_std=True)
    assert fixed.likelihood == learnt.likelihood == "gaussian"
    assert fixed.output_log_var.item() == learnt.output_log_var.item() == pytest.approx(2 * math.log(0.5))
    assert [isinstance(m.output_log_var, torch.nn.Parameter) for m in (fixed, learnt)] == [False, True]
    fixed.load_state_dict(learnt.state_dict())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"likelihood": "bernouli"}, "did you mean 'bernoulli'"),
        ({"std": 0.0}, "must be above 0"),
        ({"activation": "Relu"}, "no activation"),
    ],
)
def test_what_cannot_be_built_is_refused(settings, told):
    with pytest.raises(UserError, match=told):
        vae(**settings)


def test_a_label_stands_beside_the_input_of_both_networks():
    """One of K, appended: by hand through the first layers. Of no label and of a float one, as documented."""
    model = vae(num_classes=4, hidden_features=[]).double()
    x, z = torch.rand(2, 24).double(), torch.rand(2, 6, 3).double()
    label = torch.tensor([3, 1])
    one_hot = torch.eye(4).double()[label]
    weight, bias = model.mean.weight, model.mean.bias
    wanted = x @ weight[:, :24].T + one_hot @ weight[:, 24:].T + bias
    torch.testing.assert_close(model.encode(x, label).mean, wanted)
    weight, bias = model.output.weight, model.output.bias
    wanted = z @ weight[:, :3].T + (one_hot @ weight[:, 3:].T)[:, None] + bias
    torch.testing.assert_close(model.decode(z, label), wanted)
    torch.testing.assert_close(model.decode(z, one_hot), wanted)
    torch.testing.assert_close(model.decode(z), z @ weight[:, :3].T + bias)


def test_what_a_linear_gaussian_model_samples_has_the_covariance_of_probabilistic_pca():
    """Cov x = W W^T + s^2 I; with fewer draws of noise, or none, the diagonal would be too small."""
    model = vae(in_features=4, hidden_features=[], latent_size=2, std=0.5).double()
    model.output.bias.data = torch.arange(4).double()
    x = model.sample(200_000, generator=generator())
    weight = model.output.weight.detach()
    wanted = weight @ weight.T + 0.25 * torch.eye(4).double()
    torch.testing.assert_close(torch.cov(x.T), wanted, rtol=0, atol=0.03)
    torch.testing.assert_close(x.mean(0), torch.arange(4).double(), rtol=0, atol=0.02)
    density = MultivariateNormal(torch.arange(4).double(), wanted)
    assert -density.log_prob(x).mean().item() == pytest.approx(density.entropy().item(), abs=0.02)
