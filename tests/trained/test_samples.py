"""Samples of trained generators: the same seed, the way between two, sums of vectors, files, what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.errors import UserError
from zoo.models.gan import GAN
from zoo.models.rbm import RBM
from zoo.models.vae import VAE
from zoo.trained.samples import Sampler, parsed, save, spherical

SHAPE = (1, 4, 4)


def vae(**options):
    torch.manual_seed(0)
    return VAE(in_features=16, image_shape=SHAPE, hidden_features=[8], latent_size=3, **options).eval()


def sampler(**options):
    return Sampler(vae(**options), options.get("num_classes"))


@pytest.mark.parametrize("make", [vae, lambda: GAN(image_shape=SHAPE, latent_size=3, generator_features=[8]).eval()])
def test_a_seed_has_its_own_samples_and_more_of_them_begin_with_the_same(make):
    one = Sampler(make())
    few, many, other = one.draw(3, seed=1), one.draw(5, seed=1), one.draw(3, seed=2)
    assert few.shape == (3, *SHAPE)
    assert torch.allclose(many[:3], few, atol=1e-6)
    assert not torch.allclose(few, other, atol=1e-3)
    assert few.min() >= 0
    assert few.max() <= 1


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_rows_of_a_table_are_draws_and_not_their_means(likelihood):
    torch.manual_seed(0)
    model = VAE(in_features=4, hidden_features=[8], latent_size=2, likelihood=likelihood).eval()
    one = Sampler(model)
    z = one.latent(2000, 1)
    rows, means = one.draw(2000, seed=1), one.decoded(z)
    noise = rows - means
    assert torch.corrcoef(torch.stack([noise.flatten()[: z.numel()], z.flatten()]))[0, 1].abs() < 0.1  # no same numbers
    expected = means * (1 - means) if likelihood == "bernoulli" else torch.ones_like(means)
    assert noise.square().mean() == pytest.approx(expected.mean().item(), rel=0.1)
    assert (noise * (means - means.mean(0))).mean().abs() < 0.05 * means.var()  # of its own, whatever the code is
    assert not torch.equal(noise[0], noise[1])
    assert torch.equal(one.draw(5, seed=1), rows[:5])
    if likelihood == "bernoulli":
        assert set(rows.unique().tolist()) == {0.0, 1.0}


def test_a_class_is_asked_for_and_without_one_they_come_in_turn():
    one = sampler(num_classes=3)
    z = one.latent(4, 0)
    turns = one.draw(4, seed=0)
    for i in range(4):
        assert torch.allclose(turns[i], one.model.from_latent(z[i : i + 1], torch.tensor([i % 3]))[0])
    assert torch.allclose(one.draw(4, seed=0, label=2)[0], one.model.from_latent(z[:1], torch.tensor([2]))[0])


def test_a_walk_begins_at_each_draw_and_ends_at_the_next():
    one = sampler()
    draws, way = one.draw(3, seed=4), one.walk(3, 5, seed=4).unflatten(0, (3, 5))
    assert torch.allclose(way[:, 0], draws, atol=1e-6)
    assert torch.allclose(way[:, -1], draws.roll(-1, 0), atol=1e-6)
    assert not torch.allclose(way[0, 2], draws[0], atol=1e-3)


def test_points_on_the_arc_keep_their_length_and_near_ones_are_joined_by_a_line():
    a, b, share = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0]), torch.linspace(0, 1, 5)[:, None]
    way = spherical(a, b, share)
    assert torch.allclose(way.norm(dim=1), torch.full((5,), 2.0))
    assert torch.allclose(way[2], torch.tensor([2.0, 2.0]) / 2**0.5, atol=1e-6)
    assert torch.allclose(spherical(a, 2 * a, share)[:, 0], torch.linspace(2, 4, 5))
    assert torch.isfinite(spherical(a, -a, share)).all()


def test_arithmetic_shows_the_mean_of_each_term_and_what_comes_of_them():
    one = sampler()
    z = one.latent(4, 0)
    shown = one.arithmetic("[1, 2] - [3]+[4]", seed=0)
    wanted = torch.stack([z[:2].mean(0), z[2], z[3], z[:2].mean(0) - z[2] + z[3]])
    assert torch.allclose(shown, one.model.from_latent(wanted), atol=1e-6)


@pytest.mark.parametrize("formula", ["", "1+2", "[1]+", "[1][2]", "[]", "[0]", "[1]*[2]", "[1]-[x]", "[99999999]"])
def test_what_is_no_formula_is_said(formula):
    with pytest.raises(UserError, match="arithmetic="):
        parsed(formula)


def test_what_a_model_cannot_is_refused():
    machine = Sampler(RBM(in_features=16, image_shape=SHAPE, hidden_features=4, gibbs_steps=2).eval())
    assert machine.draw(2, seed=0).shape == (2, *SHAPE)
    assert torch.equal(machine.draw(2, seed=0), machine.draw(2, seed=0))
    with pytest.raises(UserError, match="no latent vectors"):
        machine.walk(2, 3)
    with pytest.raises(UserError, match="without labels"):
        sampler().draw(2, label=1)
    with pytest.raises(UserError, match="counted from 0"):
        sampler(num_classes=3).draw(2, label=3)


def test_images_become_a_picture_and_rows_a_table_and_both_an_archive(tmp_path):
    images, rows = sampler().draw(10), torch.tensor([[1.5, -2.0]])
    save(tmp_path / "a.png", images, columns=5)
    with Image.open(tmp_path / "a.png") as picture:
        width, height = picture.size
    assert width > 2 * height
    save(tmp_path / "a.csv", rows)
    assert (tmp_path / "a.csv").read_text() == "1.5,-2\n"
    save(tmp_path / "a.npz", images)
    assert np.array_equal(np.load(tmp_path / "a.npz")["samples"], images.numpy())


@pytest.mark.parametrize("name", ["a.csv", "a", "a.jpg"])
def test_an_ending_that_does_not_fit_is_said(name, tmp_path):
    with pytest.raises(UserError, match=r"must end in .png or .npz: these are images"):
        save(tmp_path / name, torch.zeros(2, *SHAPE))


def test_a_folder_that_is_not_there_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("none/a.png", "file/a.npz"):
        with pytest.raises(UserError, match="cannot be written"):
            save(tmp_path / name, torch.zeros(2, *SHAPE))
