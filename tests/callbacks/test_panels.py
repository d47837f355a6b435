"""The texts of a run, its layers, and its row of HPARAMS."""

import pytest
import torch

from zoo.callbacks.panels import chosen, hyper_parameters, layers_of
from zoo.models.dcgan import DCGAN
from zoo.models.gan import GAN
from zoo.models.mlp import MLP


def count(table):
    """Parameters of all rows."""
    rows = (line.split("|") for line in table.splitlines() if line.startswith("| "))
    return sum(int(row[-2].replace(",", "")) for row in rows if row[1].strip() != "L")


def test_a_network_alone_has_one_table():
    model = MLP(in_features=64, out_features=10, hidden_features=[16])
    assert layers_of(model, (torch.zeros(5, 1, 8, 8),)).startswith("| L | layer |")


@pytest.mark.parametrize(
    "model",
    [
        GAN(image_shape=[1, 8, 8], generator_features=[16], discriminator_features=[12]),
        GAN(num_features=64, generator_features=[16], discriminator_features=[12], num_classes=3),
        DCGAN(image_shape=[1, 8, 8], generator_channels=8, discriminator_channels=8),
    ],
    ids=["gan", "conditional gan", "dcgan"],
)
def test_of_two_networks_the_layers_of_both_are_listed_and_nothing_is_changed(model):
    x = torch.zeros(4, 64) if model.num_classes else torch.zeros(4, 1, 8, 8)
    before, state = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    page = layers_of(model, (x,))
    discriminator, generator = page.split("The generator")
    assert count(discriminator) == sum(p.numel() for p in model.discriminator.parameters())
    assert count(generator) == sum(p.numel() for p in model.generator.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_what_follows_from_the_data_is_no_column_of_hparams():
    config = {"choices": {"model": "vae", "data": "digits"}, "model": {"image_shape": [1, 8, 8], "latent_size": 20}}
    assert hyper_parameters(config) == {"model": "vae", "data": "digits", "seed": 0, "model.latent_size": 20}


def test_what_was_typed_stands_in_front_with_model_and_data():
    typed = ["experiment=lenet5_mnist", "optimizer.lr=0.1", "+model.dropout=0.5", "~augment", "++task.k=a=b"]
    told = {"experiment", "optimizer.lr", "model.dropout", "augment", "task.k"}
    assert chosen({"overrides": typed}) == {"model", "data"} | told
    assert chosen({}) == {"model", "data"}
