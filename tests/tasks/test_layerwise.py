"""Denoising autoencoders, layer by layer."""

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from zoo.batches import ImageBatch, TableBatch
from zoo.build import build
from zoo.errors import UserError
from zoo.models.stacked_autoencoder import StackedAutoencoder
from zoo.run import configure, run
from zoo.tasks.layerwise import DenoisingLayers, level_at

SGD = partial(torch.optim.SGD, lr=0.1)


@pytest.mark.parametrize(
    ("num_layers", "per_layer", "epochs", "levels"),
    [
        (3, None, 6, [0, 0, 1, 1, 2, 2]),
        (3, None, 7, [0, 0, 0, 1, 1, 2, 2]),
        (3, None, 2, [0, 1]),
        (2, 2, 7, [0, 0, 1, 1, 1, 1, 1]),
        (2, 3, -1, [0, 0, 0, 1, 1]),
        (1, None, 3, [0, 0, 0]),
    ],
)
def test_layers_take_turns(num_layers, per_layer, epochs, levels):
    assert [level_at(epoch, num_layers, per_layer, epochs) for epoch in range(len(levels))] == levels


def test_layers_without_an_end_need_a_number_of_epochs():
    with pytest.raises(UserError, match=r"give task\.epochs_per_layer"):
        level_at(0, 2, None, -1)


def made(corruption=(0.5,), seed=0, **options):
    torch.manual_seed(0)
    model = StackedAutoencoder(in_features=8, hidden_features=[6, 5], **options).double()
    return DenoisingLayers(model, SGD, corruption=corruption, seed=seed).double()


def test_a_layer_mends_what_was_set_to_zero():
    """Equal to the criterion written out, gradients included, with the mask of that place."""
    task, x = made(image_shape=[1, 2, 4]), torch.rand(7, 1, 2, 4).double()
    found = task.losses(ImageBatch(x, torch.zeros(7)))
    layer, clean = task.layers[0], x.flatten(1)
    masked = clean * (task.draw("kept", 8, clean) >= 0.5)
    assert 0.3 < (masked == 0).double().mean() < 0.7
    z = torch.sigmoid(torch.sigmoid(masked @ layer.weight + layer.hidden_bias) @ layer.weight.T + layer.visible_bias)
    wanted = -(clean * z.log() + (1 - clean) * (1 - z).log()).sum(1).mean()
    torch.testing.assert_close(found["loss"], wanted)
    torch.testing.assert_close(found["reconstruction_error"], F.mse_loss(z, clean, reduction="sum") / 7)
    ours, theirs = (torch.autograd.grad(loss, list(layer.parameters())) for loss in (found["loss"], wanted))
    torch.testing.assert_close(ours, theirs)
    assert [p.grad for p in task.layers[1].parameters()] == [None] * 3


def test_columns_of_a_table_are_judged_by_squared_errors():
    task, x = made(corruption=(0.0,)), torch.randn(7, 8).double()
    layer = task.layers[0]
    wanted = 0.5 * (layer.visible_logits(layer(x)) - x).square().sum(1).mean()
    torch.testing.assert_close(task.losses(TableBatch(x, torch.zeros(7)))["loss"], wanted)


def test_the_second_layer_codes_what_the_first_makes_of_clean_data(monkeypatch):
    task, x = made(corruption=(0.9, 0.0), image_shape=[1, 2, 4]), torch.rand(7, 1, 2, 4).double()
    monkeypatch.setattr(type(task), "level", 1)
    first, second = task.layers
    h = first(x.flatten(1)).detach()
    wanted = F.binary_cross_entropy(torch.sigmoid(second.visible_logits(second(h))), h, reduction="sum") / 7
    loss = task.losses(ImageBatch(x, torch.zeros(7)))["loss"]
    torch.testing.assert_close(loss, wanted)
    loss.backward()
    assert first.weight.grad is None
    assert second.weight.grad.abs().sum() > 0


def test_a_stack_is_learned_and_then_classifies(tmp_path):
    tiny = ["trainer.max_epochs=2", "data.fraction=0.3", "logger=none", "model.hidden_features=[24,16]"]
    assert run(configure("model=stacked_autoencoder", *tiny, run_dir=tmp_path / "stack")) == 0
    typed = ["model=stacked_autoencoder", "task=classification", f"pretrained={tmp_path}/stack", *tiny]
    built = build(configure(*typed, run_dir=tmp_path / "run"))
    assert "6 loaded, 0 adapted, 2 newly initialized, 0 skipped tensors" in "\n".join(built.notes)


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["callbacks.early_stopping.patience=2"], "while the first layers learn"),
        (
            ["callbacks.early_stopping.patience=2", "callbacks.early_stopping.monitor=val/loss"],
            "the first layers learn",
        ),
        (["scheduler=plateau"], "one layer after another"),
    ],
)
def test_what_takes_layers_for_one_is_refused_in_one_line(typed, told, tmp_path):
    typed = ["model=dbn", "logger=none", "trainer.limit_train_batches=1", *typed]
    built = build(configure(*typed, "model.hidden_features=[8,8]", run_dir=tmp_path / "two"))
    with pytest.raises(UserError, match=told) as caught:
        built.fit()
    assert "\n" not in str(caught.value)
    build(configure(*typed, "model.hidden_features=[8]", "trainer.max_epochs=1", run_dir=tmp_path / "one")).fit()
