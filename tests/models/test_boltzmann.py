"""RBM, deep belief net and stacked autoencoder as models: what they draw, and what they share."""

import pytest
import torch
from torch import nn

from zoo.errors import UserError
from zoo.metrics.partition import binary_states
from zoo.models.dbn import DBN
from zoo.models.rbm import RBM
from zoo.models.stacked_autoencoder import StackedAutoencoder


def rbm(**options):
    torch.manual_seed(0)
    model = RBM(hidden_features=3, std=1.5, gibbs_steps=20, **options).double()
    nn.init.normal_(model.layers[0].visible_bias)
    return model


def seeded():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("kind", [RBM, DBN])
def test_samples_are_images_or_rows_and_repeat(kind):
    sizes = {"hidden_features": 3} if kind is RBM else {"hidden_features": [4, 3]}
    image = kind(in_features=6, image_shape=[1, 2, 3], gibbs_steps=5, **sizes)
    drawn = image.sample(7, generator=seeded())
    assert drawn.shape == (7, 1, 2, 3)
    assert 0 <= drawn.min() < drawn.max() <= 1
    assert torch.equal(drawn, image.sample(7, generator=seeded()))
    assert not drawn.requires_grad
    assert kind(in_features=6, gibbs_steps=5, **sizes).sample(2, generator=seeded()).shape == (2, 6)
    with pytest.raises(UserError, match="leave label= out"):
        image.sample(1, generator=seeded(), label=torch.tensor([1]))


def test_samples_of_an_rbm_have_the_mean_of_its_distribution():
    model = rbm(in_features=4, image_shape=[1, 2, 2])
    states = binary_states(4, dtype=torch.float64)
    with torch.no_grad():
        wanted = (-model.layers[0].free_energy(states)).softmax(0) @ states
    found = model.sample(20000, generator=seeded()).flatten(1).mean(0)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.02)


def test_rows_of_a_table_are_drawn_with_their_spread():
    model = rbm(in_features=2)
    nn.init.zeros_(model.layers[0].weight)
    drawn = model.sample(20000, generator=seeded())
    torch.testing.assert_close(drawn.mean(0), model.layers[0].visible_bias.detach(), rtol=0, atol=0.03)
    torch.testing.assert_close(drawn.var(0), torch.ones(2).double(), rtol=0.05, atol=0)


def test_a_belief_net_of_one_layer_is_an_rbm():
    one, other = (
        rbm(in_features=6, image_shape=[1, 2, 3]),
        DBN(in_features=6, hidden_features=[3], image_shape=[1, 2, 3]),
    )
    other.double().load_state_dict(one.state_dict())
    x = torch.rand(5, 1, 2, 3).double()
    assert torch.equal(one(x), other(x))
    other.gibbs_steps = one.gibbs_steps
    assert torch.equal(one.sample(4, generator=seeded()), other.sample(4, generator=seeded()))
    assert torch.equal(one.down(one.up(x)), other.down(other.up(x)))


def test_a_belief_net_draws_from_the_top_down():
    """Layers between the top and the data, which here copy, pass on what the top two have drawn."""
    torch.manual_seed(0)
    model = DBN(in_features=3, hidden_features=[3, 3, 2], image_shape=[1, 1, 3], gibbs_steps=10).double()
    for layer in model.layers[:2]:
        layer.weight.data, layer.visible_bias.data = 60 * torch.eye(3).double(), torch.full((3,), -30.0).double()
    nn.init.normal_(model.layers[2].weight, std=3.0)
    top = model.layers[2]
    with torch.no_grad():
        found = model.sample(20000, generator=seeded()).flatten(1)
        states = binary_states(3, dtype=torch.float64)
        wanted = (-top.free_energy(states)).softmax(0)
    assert ((found < 1e-6) | (found > 1 - 1e-6)).all()
    counted = torch.bincount((found.round() @ torch.tensor([4.0, 2, 1]).double()).long(), minlength=8) / 20000
    assert (counted - wanted).abs().sum() / 2 < 0.02
    assert (wanted - 1 / 8).abs().sum() / 2 > 0.1, "a distribution that could tell"


def test_a_stacked_autoencoder_has_the_layout_of_a_belief_net_and_codes():
    net = DBN(in_features=6, hidden_features=[5, 4], image_shape=[1, 2, 3], num_outputs=3)
    stack = StackedAutoencoder(in_features=6, hidden_features=[5, 4], image_shape=[1, 2, 3], num_outputs=3)
    stack.load_state_dict(net.state_dict())
    x = torch.rand(7, 1, 2, 3)
    assert torch.equal(stack(x), net(x))
    assert stack.latent_size == 4
    assert stack.encode(x).shape == (7, 4)
    h = torch.sigmoid(stack.layers[1].visible_logits(stack.encode(x)))
    assert torch.equal(stack.decode(stack.encode(x)), stack.layers[0].visible_means(h).view(7, 1, 2, 3))
