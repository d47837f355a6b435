"""The convolutional pair against plain torch.nn, for images of several sizes and each normalization."""

import pytest
import torch
from torch import nn

from zoo.build import build
from zoo.checkpoint import load_model
from zoo.errors import UserError
from zoo.models.dcgan import DCGAN, halvings
from zoo.run import configure

SMALL = {"latent_size": 6, "generator_channels": 4, "discriminator_channels": 4}


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def moved(model):
    """With weights and statistics that are not where they start."""
    torch.manual_seed(1)
    for tensor in (*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())):
        tensor.data.add_(0.3 * torch.rand(tensor.shape))
    return model


@pytest.mark.parametrize("training", [True, False])
def test_both_nets_are_the_layers_of_the_figure(training):
    ours = moved(DCGAN(image_shape=[1, 28, 28], **SMALL)).double()
    plain = nn.Sequential(
        *(nn.Linear(6, 8 * 7 * 7, bias=False), nn.Unflatten(1, (8, 7, 7)), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.ConvTranspose2d(4, 1, 4, stride=2, padding=1), nn.Tanh()),
    ).double()
    judge = nn.Sequential(
        *(nn.Conv2d(1, 4, 4, stride=2, padding=1), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(4, 8, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.LeakyReLU(0.2)),
        *(nn.Flatten(), nn.Linear(8 * 7 * 7, 1)),
    ).double()
    for theirs, own in ((plain, ours.generator), (judge, ours.discriminator)):
        theirs.load_state_dict(dict(zip(theirs.state_dict(), own.state_dict().values(), strict=True)))
        theirs.train(training)
    ours.train(training)
    z, x = drawn(5, 6).double(), torch.rand(5, 1, 28, 28).double()
    torch.testing.assert_close(ours.generator(z), (plain(z) + 1) / 2, rtol=0, atol=1e-12)
    torch.testing.assert_close(ours(x), judge(2 * x - 1).squeeze(1), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("size", "steps", "first"), [(8, 1, 4), (28, 2, 7), (32, 3, 4), (64, 4, 4)])
def test_every_size_goes_down_to_four_pixels_or_as_far_as_it_is_even(size, steps, first):
    model = DCGAN(image_shape=[3, size, size], **SMALL).eval()
    assert halvings(size, size) == steps
    assert model.generator.first == (4 * 2 ** (steps - 1), first, first)
    made = model.sample(2, generator=torch.Generator().manual_seed(0))
    assert made.shape == (2, 3, size, size)
    assert 0 <= made.min() <= made.max() <= 1
    assert model(made).shape == (2,)


@pytest.mark.parametrize("shape", [(27, 27), (6, 8), (28, 15)])
def test_a_size_that_cannot_be_halved_is_refused_in_one_line(shape):
    with pytest.raises(UserError, match=r"cannot be halved.*data.image_size") as caught:
        DCGAN(image_shape=[1, *shape], **SMALL)
    assert "\n" not in str(caught.value)


def test_weights_start_as_the_paper_says():
    torch.manual_seed(0)
    model = DCGAN(image_shape=[1, 28, 28])
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)) and layer.weight.numel() > 5000:
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.weight.mean().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("norm", ["layer", "none", "spectral"])
def test_without_batch_norm_a_sample_is_judged_alone_in_training_too(norm):
    model = moved(DCGAN(image_shape=[1, 16, 16], discriminator_norm=norm, **SMALL)).double().train()
    x = torch.rand(4, 1, 16, 16, dtype=torch.float64)
    if norm == "spectral":
        model.discriminator.eval()  # else each call goes on with the power iteration
    torch.testing.assert_close(model(x)[:1], model(x[:1]), rtol=0, atol=1e-12)
    assert not [m for m in model.discriminator.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [m for m in model.generator.modules() if isinstance(m, nn.BatchNorm2d)]


def test_spectral_norm_leaves_no_map_that_lengthens():
    model = moved(DCGAN(image_shape=[1, 28, 28], discriminator_norm="spectral", **SMALL)).train()
    for _ in range(60):
        model(torch.rand(2, 1, 28, 28))
    layers = [m for m in model.discriminator.layers if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) == 3
    for layer in layers:
        assert float(torch.linalg.svdvals(layer.weight.detach().flatten(1))[0]) == pytest.approx(1, abs=1e-3)


def test_a_checkpoint_of_spectral_norm_comes_back(tmp_path):
    small = ("model.generator_channels=4", "model.discriminator_channels=4", "task.samples=0", "debug=fast")
    typed = ("model=dcgan", "model.discriminator_norm=spectral", *small, "logger=none")
    built = build(configure(*typed, run_dir=tmp_path))
    built.fit()
    model, x = load_model(tmp_path), torch.rand(3, *built.data.prepare().facts["image_shape"])
    torch.testing.assert_close(model.eval()(x), built.task.model.eval()(x), rtol=0, atol=1e-6)


def test_labels_are_maps_beside_the_image():
    torch.manual_seed(0)
    model = DCGAN(image_shape=[1, 8, 8], num_classes=3, **SMALL).eval()
    x, z, label = torch.rand(3, 1, 8, 8), drawn(3, 6), torch.tensor([0, 1, 2])
    maps = torch.zeros(3, 3, 8, 8)
    for i in range(3):
        maps[i, i] = 1
    by_hand = model.discriminator.layers(torch.cat([2 * x - 1, maps], 1)).squeeze(1)
    torch.testing.assert_close(model.discriminator(x, label), by_hand)
    assert not torch.equal(model.generator(z, label), model.generator(z, label.flip(0)))
