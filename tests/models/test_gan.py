"""The dense pair against plain torch.nn, and what its settings change."""

import pytest
import torch
from torch import nn

from zoo.errors import UserError
from zoo.models.gan import GAN, Maxout

SMALL = {"latent_size": 5, "generator_features": [7, 6], "discriminator_features": [4, 3]}


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_both_nets_are_plain_layers_in_a_row_and_maxout_is_the_largest_of_its_pieces():
    torch.manual_seed(0)
    model = GAN(image_shape=[1, 2, 3], **SMALL).double().eval()
    z, x = drawn(9, 5).double(), drawn(9, 1, 2, 3).double().requires_grad_()
    one, two, three = (layer for layer in model.generator.layers if isinstance(layer, nn.Linear))
    by_hand = torch.sigmoid(three(torch.relu(two(torch.relu(one(z)))))).view(9, 1, 2, 3)
    torch.testing.assert_close(model.generator(z), by_hand, rtol=0, atol=1e-12)

    def maxout(layer, x):
        weight, bias = layer.linear.weight.view(-1, 5, x.shape[1]), layer.linear.bias.view(-1, 5)
        pieces = torch.einsum("upi,bi->bup", weight, x) + bias
        return torch.stack(list(pieces.unbind(2))).max(0).values

    first, second = (layer for layer in model.discriminator.layers if isinstance(layer, Maxout))
    last = model.discriminator.layers[-1]
    by_hand = last(maxout(second, maxout(first, x.flatten(1)))).squeeze(1)
    torch.testing.assert_close(model(x), by_hand, rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad(answer.sum(), x, retain_graph=True)[0] for answer in (model(x), by_hand)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


def test_by_default_it_has_the_sizes_of_the_paper():
    model = GAN(image_shape=[1, 28, 28])
    of_generator = 100 * 1200 + 1200 + 1200 * 1200 + 1200 + 1200 * 784 + 784
    of_discriminator = (784 * 1200 + 1200) + (240 * 1200 + 1200) + (240 + 1)
    assert sum(p.numel() for p in model.generator.parameters()) == of_generator
    assert sum(p.numel() for p in model.discriminator.parameters()) == of_discriminator
    assert [m.p for m in model.discriminator.layers if isinstance(m, nn.Dropout)] == [0.2, 0.5, 0.5]
    assert not [m for m in model.generator.modules() if isinstance(m, nn.Dropout)]


def test_images_lie_in_zero_to_one_and_rows_anywhere():
    images = GAN(image_shape=[1, 4, 4], **SMALL).eval()
    rows = GAN(num_features=3, generator_activation="Tanh", discriminator_activation="LeakyReLU", **SMALL).eval()
    for layer in (images.generator.layers[-2], rows.generator.layers[-1]):
        layer.weight.data *= 50
    made = images.sample(50, generator=torch.Generator().manual_seed(0))
    assert made.shape == (50, 1, 4, 4)
    assert 0 <= made.min() < 0.1 < 0.9 < made.max() <= 1
    made = rows.sample(50, generator=torch.Generator().manual_seed(0))
    assert made.shape == (50, 3)
    assert made.min() < -1
    assert made.max() > 1


@pytest.mark.parametrize(("prior", "low", "variance"), [("normal", -5, 1), ("uniform", -1, 1 / 3)])
def test_noise_is_of_the_prior_and_follows_from_its_generator(prior, low, variance):
    model = GAN(num_features=2, prior=prior, **SMALL)
    z = model.latent(4000, generator=torch.Generator().manual_seed(3))
    assert low <= z.min() < -0.99
    assert float(z.var()) == pytest.approx(variance, rel=0.05)
    assert abs(float(z.mean())) < 0.03
    again = [model.eval().sample(6, generator=torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*again)
    assert torch.equal(again[0], model.from_latent(model.latent(6, generator=torch.Generator().manual_seed(3))))
    assert not again[0].requires_grad


def test_a_conditional_pair_sees_the_label_in_both_nets_and_takes_classes_in_turn():
    torch.manual_seed(0)
    model = GAN(image_shape=[1, 2, 2], num_classes=3, **SMALL).eval()
    x, z = drawn(4, 1, 2, 2), drawn(4, 5)
    for net, given in ((model.generator, z), (model.discriminator, x)):
        ones, twos = net(given, torch.full((4,), 1)), net(given, torch.full((4,), 2))
        assert (ones != twos).flatten(1).any(1).all() if ones.ndim > 1 else (ones != twos).all()
        assert not torch.equal(net(given, None), ones)
    in_turn = model.from_latent(z)
    assert torch.equal(in_turn, model.from_latent(z, torch.tensor([0, 1, 2, 0])))
    without = GAN(image_shape=[1, 2, 2], **SMALL).eval()
    assert torch.equal(without.from_latent(z), without.from_latent(z, torch.tensor([0, 1, 2, 0])))


@pytest.mark.parametrize(
    "settings",
    [
        {"prior": "gaussian"},
        {"generator_activation": "maxot"},
        {"output_activation": "Softmax"},
        {"latent_size": 0},
    ],
)
def test_a_setting_that_does_not_exist_is_refused_in_one_line(settings):
    with pytest.raises(UserError) as caught:
        GAN(num_features=2, **(SMALL | settings))
    assert "\n" not in str(caught.value)
