"""Variational inference: exact where theory knows the answer, a pure function of place, and whole runs."""

import json
import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch.distributions import MultivariateNormal

from zoo.batches import ImageBatch, SeriesBatch, TableBatch
from zoo.build import build
from zoo.callbacks.checkpointing import RunCheckpoint
from zoo.callbacks.curves import iterations_done
from zoo.checkpoint import load_model, read
from zoo.errors import UserError
from zoo.losses.variational import importance_weighted_bound, log_weights, reparameterize
from zoo.models.vae import VAE
from zoo.run import configure, run
from zoo.running.signals import LISTENER
from zoo.tasks.variational import Variational

F, Z = 6, 2


def linear(**settings):
    torch.manual_seed(0)
    return VAE(in_features=F, hidden_features=[], latent_size=Z, **settings).double()


def task_of(model, **settings):
    return Variational(model, partial(torch.optim.Adam), **settings)


def rows(number, seed=0):
    """Rows with two directions of large variance, and others that are all smaller and not alike."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.tensor([3.0, 2.0, 0.9, 0.7, 0.6, 0.5], dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(F, F, generator=generator, dtype=torch.float64)).Q
    x = (torch.randn(number, F, generator=generator, dtype=torch.float64) * spread) @ turn + 1
    return TableBatch(x, torch.zeros(number, dtype=torch.long))


def exact_points(kind, shape, name, like):
    """In place of noise: points with mean 0 and covariance I. Means of quadratic functions over them are exact."""
    points = math.sqrt(Z) * torch.cat([torch.eye(Z), -torch.eye(Z)]).to(like)  # (2 Z, Z)
    assert shape == points.shape
    return points.expand(len(like), *shape)


def density(model):
    """What a linear-Gaussian model says of x: N(b, W W^T + s^2 I)."""
    weight, bias = model.output.weight.detach(), model.output.bias.detach()
    variance = model.output_log_var.detach().double().exp()
    return MultivariateNormal(bias, weight @ weight.T + variance * torch.eye(F).double())


def near_posterior(model):
    """Gives a linear model an encoder that is near p(z|x), and not it: variances of 0.6, whatever they should be."""
    weight = model.output.weight.detach()  # (F, Z)
    precision = torch.eye(Z).double() + weight.T @ weight / model.output_log_var.double().exp()
    with torch.no_grad():
        model.mean.weight.copy_(torch.linalg.solve(precision, weight.T) / model.output_log_var.double().exp())
        model.mean.bias.copy_(0.3 - model.mean.weight @ model.output.bias)
        model.log_var.weight.zero_()
        model.log_var.bias.fill_(math.log(0.6))
    return model


@pytest.mark.parametrize("learn_std", [True, False])
def test_a_linear_model_becomes_probabilistic_pca(learn_std):
    """Tipping and Bishop 1999, equations 7 and 8: what the best one reaches, and the variance it leaves to noise.

    The bound is tight, for the best W can be turned so that the posterior's variables are independent.
    """
    batch = rows(300)
    values = torch.linalg.eigvalsh(torch.cov(batch.x.T, correction=0)).flip(0)  # descending
    best = float(values[Z:].mean())
    wanted = -0.5 * float(values[:Z].log().sum() + (F - Z) * math.log(best) + F * math.log(2 * math.pi) + F)
    model = linear(std=1.0 if learn_std else math.sqrt(best), learn_std=learn_std)
    task = task_of(model, samples=2 * Z)
    task.draw = exact_points
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.LBFGS(parameters, max_iter=300, line_search_fn="strong_wolfe", tolerance_change=1e-12)

    def closure():
        optimizer.zero_grad()
        loss = task.losses(batch)["loss"]
        loss.backward()
        return loss

    optimizer.step(closure)
    elbo = -float(task.losses(batch)["loss"].detach())
    assert elbo == pytest.approx(wanted, abs=1e-3)  # 0.1 nat is asked for
    assert float(density(model).log_prob(batch.x).mean()) == pytest.approx(wanted, abs=1e-3)
    assert float(model.output_log_var.detach().exp()) == pytest.approx(best, rel=1e-2)


def test_the_elbo_is_the_mean_of_the_log_weights():
    """What the closed form of the KL stands for."""
    batch, task = rows(20), task_of(linear(), samples=2 * Z)
    task.draw = exact_points
    mean, log_var = task.model.encode(batch.x)
    noise = exact_points("normal", (2 * Z, Z), "", mean)
    z = reparameterize(mean, log_var, noise)
    weights = log_weights(task.log_likelihood(batch.x, z, None), z, noise, log_var)
    torch.testing.assert_close(-weights.mean(), task.losses(batch)["loss"])
    torch.testing.assert_close(importance_weighted_bound(weights[:, :1]), weights[:, 0])


def test_the_importance_weighted_bound_rises_with_the_number_of_codes_up_to_the_likelihood():
    batch, model = rows(400), near_posterior(linear(std=1.5))
    exact = float(density(model).log_prob(batch.x).mean())
    found = [
        -float(task_of(model, bound="iwae", samples=k).losses(batch)["loss"].detach()) for k in (1, 5, 50, 500, 5000)
    ]
    elbo = -float(task_of(model, samples=2000).losses(batch)["loss"].detach())
    assert found[0] == pytest.approx(elbo, abs=0.1)
    assert sorted(found) == found
    assert exact - elbo > 0.2
    assert found[-1] == pytest.approx(exact, abs=0.02)


def test_the_estimate_of_the_likelihood_is_near_the_exact_one():
    batch, model = rows(50), near_posterior(linear(std=1.5))
    with torch.no_grad():
        found = task_of(model, eval_samples=5000).estimate(batch.x, None)
    torch.testing.assert_close(found, density(model).log_prob(batch.x), rtol=0, atol=0.1)
    assert float((found - density(model).log_prob(batch.x)).mean()) == pytest.approx(0, abs=0.01)


def test_the_estimate_does_not_depend_on_how_many_codes_are_decoded_at_once(monkeypatch):
    """Each piece has noise of its own, and every code counts once."""
    batch, task = rows(7), task_of(linear(), eval_samples=50)
    seen = []
    task.draw = lambda kind, shape, name, like: (
        seen.append((shape, name)),
        torch.full((len(like), *shape), 0.1).double(),
    )[1]
    whole = task.estimate(batch.x, None)
    monkeypatch.setattr("zoo.tasks.variational.AT_ONCE", 7 * 20)
    torch.testing.assert_close(task.estimate(batch.x, None), whole)
    assert [shape for shape, _ in seen] == [(50, Z), (20, Z), (20, Z), (10, Z)]
    assert len({name for _, name in seen[1:]}) == 3


def image_batch(number=64):
    generator = torch.Generator().manual_seed(0)
    return ImageBatch(torch.rand(number, 1, 5, 5, generator=generator), torch.arange(number) % 3)


def image_model(**settings):
    torch.manual_seed(0)
    return VAE(**({"in_features": 25, "image_shape": (1, 5, 5), "hidden_features": [8], "latent_size": 3} | settings))


def test_pixels_are_drawn_anew_at_each_place_and_alike_at_the_same():
    batch, task = image_batch(2000), task_of(image_model(), binarize="stochastic")
    task.batch_at_hand = ("val", 3)
    first = task.observed(batch)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(first.mean(), batch.image.mean(), rtol=0, atol=0.01)
    bright = first[batch.image > 0.8]
    assert 0.85 < float(bright.mean()) < 0.95
    assert torch.equal(first, task.observed(batch))
    for place in (("val", 4), ("test", 3), ("train", 3)):
        task.batch_at_hand = place
        assert not torch.equal(first, task.observed(batch))
    assert torch.equal(task_of(image_model(), binarize="threshold").observed(batch), (batch.image > 0.5).float())
    assert task_of(image_model()).observed(batch) is batch.image


def test_what_is_drawn_belongs_to_a_row_of_the_global_batch():
    """Three processes draw for their rows what one draws for all, in training and in evaluation."""
    like = torch.zeros(10, 2)
    for stage, size in (("train", 12), ("val", 11)):
        found = {}
        for world_size in (1, 3):
            for rank in range(world_size):
                task = task_of(image_model(), seed=5)
                data = SimpleNamespace(train_batch_size=12, eval_batch_size=11)
                task._trainer = SimpleNamespace(
                    datamodule=data, global_rank=rank, world_size=world_size, current_epoch=2
                )
                task.batch_at_hand = (stage, 1)
                rows_here = like[rank::world_size]
                found[world_size, rank] = task.draw("normal", (4, 3), "codes", rows_here)
        assert all(torch.equal(found[1, 0][rank::3], found[3, rank]) for rank in range(3)), (stage, size)
        assert found[1, 0].std() > 0.7


def test_what_is_minimized_has_warm_up_and_free_bits_and_what_is_compared_has_not():
    batch = image_batch()
    plain, changed = (
        task_of(image_model(), **s) for s in ({}, {"beta": 3.0, "kl_warmup_epochs": 2.0, "free_bits": 0.7})
    )
    with torch.no_grad():
        wanted, found = plain.losses(batch), changed.train().losses(batch)
        assert found["kl_weight"] == 0
        torch.testing.assert_close(found["loss"], found["reconstruction"])
        data = SimpleNamespace(train_batch_size=64, eval_batch_size=64)
        changed._trainer = SimpleNamespace(
            datamodule=data, global_rank=0, world_size=1, current_epoch=1, num_training_batches=4
        )
        changed.batch_at_hand = ("train", 2)  # after one epoch and a half of two
        found = changed.losses(batch)
        assert found["kl_weight"] == pytest.approx(3 * 0.75)
        free = changed.with_free_bits(torch.full((4, 3), 0.2))
        assert free.item() == pytest.approx(3 * 0.7)
        kl = changed.with_free_bits(torch.full((4, 3), 0.9))
        assert kl.item() == pytest.approx(3 * 0.9)
        compared = changed.eval().losses(batch)
        torch.testing.assert_close(compared["loss"], compared["reconstruction"] + 3 * compared["kl"])
    torch.testing.assert_close(wanted["loss"], wanted["reconstruction"] + wanted["kl"])
    assert changed.derived({"reconstruction": 5.0, "kl": 2.0}) == {"negative_elbo": 7.0}


def test_free_bits_are_of_the_global_batch():
    """Each process alone would find one variable dear and the other free."""
    task = task_of(image_model(), free_bits=0.5)
    task._trainer = SimpleNamespace(world_size=2)
    other = torch.tensor([0.0, 1.6, 2.0], dtype=torch.float64)  # sums of two variables over two samples there
    task.add_up = lambda totals: totals.add_(other)
    kl = torch.tensor([[0.9, 0.0], [0.9, 0.0]], requires_grad=True)  # over all: means 0.45 and 0.4
    cost = task.with_free_bits(kl)
    assert cost.item() == pytest.approx(1.0)
    cost.backward()
    assert kl.grad.abs().sum() == 0


def test_a_conditional_model_makes_what_it_is_told_to_make():
    """Two classes of rows, far apart: a label decides the side."""
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(400) % 2
    shared = torch.randn(400, 1, generator=generator)
    x = torch.cat([6.0 * label[:, None] - 3 + 0.1 * torch.randn(400, 2, generator=generator), shared], dim=1)
    torch.manual_seed(0)
    model = VAE(in_features=3, num_classes=2, hidden_features=[], latent_size=1, std=0.3)
    task, batch = task_of(model), TableBatch(x, label)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for number in range(250):
        task.batch_at_hand = ("train", number)
        optimizer.zero_grad()
        task.losses(batch)["loss"].backward()
        optimizer.step()
    for k, centre in ((0, -3.0), (1, 3.0)):
        made = model.sample(500, generator=torch.Generator().manual_seed(1), label=torch.full((500,), k))
        torch.testing.assert_close(made[:, :2].mean(0), torch.full((2,), centre), rtol=0, atol=1.0)
        assert made[:, 2].std() > 0.7
    one = model.from_latent(torch.ones(2, 1), torch.tensor([0, 1]))
    assert (one[0, 0] - one[1, 0]).abs() > 3
    drawn = model.sample(500, generator=torch.Generator().manual_seed(1))
    assert 0.4 < float((drawn[:, 0] > 0).float().mean()) < 0.6


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"bound": "elob"}, "task.bound=elob; did you mean 'elbo'"),
        ({"binarize": "yes"}, "There is no task.binarize=yes"),
        ({"samples": 0}, "task.samples=0 must be a number from 1 on"),
        ({"beta": -1.0}, "task.beta=-1.0 must be"),
        ({"bound": "iwae", "beta": 2.0, "free_bits": 0.1}, "leave out task.beta and task.free_bits, or use bound=elbo"),
    ],
)
def test_settings_that_no_run_can_have_are_refused(settings, told):
    with pytest.raises(UserError, match=told):
        task_of(image_model(), **settings)


@pytest.mark.parametrize(
    ("model", "batch", "told"),
    [
        (image_model(), ImageBatch(torch.randn(2, 1, 5, 5), torch.zeros(2)), "use data.normalize=false"),
        (linear(likelihood="bernoulli"), rows(2), "use model.likelihood=gaussian"),
        (torch.nn.Linear(6, 2), rows(2), "has no encode and no decode.*use model=vae"),
        (linear(), SeriesBatch(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3)), "is for a ImageBatch or TableBatch"),
        (linear(num_classes=3), TableBatch(rows(2).x, torch.zeros(2)), "needs classes"),
    ],
)
def test_data_and_models_that_do_not_fit_are_refused(model, batch, told):
    with pytest.raises(UserError, match=told):
        task_of(model).check(batch)


@pytest.mark.parametrize("num_classes", [None, 3])
def test_images_are_shown_from_the_same_noise_each_time(num_classes):
    task = task_of(image_model(latent_size=2, num_classes=num_classes), binarize="stochastic").eval()
    shown, again = task.show(image_batch()), task.show(image_batch())
    assert set(shown) == {"codes", "samples", "reconstructions", "latent_walk", "interpolation", "manifold"}
    assert all(torch.equal(shown[name], again[name]) for name in shown if name != "codes")
    assert shown["samples"].shape[1] == (10 if num_classes is None else 3) * 47  # 5 pixels, nine times, and a gap of 2
    assert set(task.show(image_batch(1))) == set(shown)


# ---- whole runs

TYPED = ("model=vae", "data=digits", "model.hidden_features=[16]", "model.latent_size=4", "trainer.max_epochs=2")
TYPED += ("task.binarize=stochastic", "task.eval_samples=30", "trainer.num_threads=1", "logger=none")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vae") / "run"
    assert run(configure(*TYPED, run_dir=folder)) == 0
    return folder


def test_a_run_says_how_good_it_is(finished, call_script):
    metrics = json.loads((finished / "metrics.json").read_text())
    for stage in ("val", "test"):
        assert metrics[f"{stage}/negative_elbo"] == pytest.approx(metrics[f"{stage}/loss"])
        parts = metrics[f"{stage}/reconstruction"] + metrics[f"{stage}/kl"]
        assert parts == pytest.approx(metrics[f"{stage}/negative_elbo"])
        assert metrics[f"{stage}/active_units"] in range(5)
    assert 0 < metrics["test/nll_iwae"] < metrics["test/loss"]
    assert "val/nll_iwae" not in metrics
    ran = call_script("evaluate", f"ckpt={finished}")
    assert f"{metrics['test/nll_iwae']:.4f}" in ran.out
    made = load_model(finished).sample(3, generator=torch.Generator().manual_seed(0))
    assert made.shape == (3, 1, 8, 8)


def test_a_run_that_was_stopped_inside_an_epoch_draws_what_it_would_have_drawn(finished, tmp_path):
    real, middle = RunCheckpoint.on_train_batch_start, read(finished / "checkpoints" / "last.ckpt")["global_step"] // 3

    def hear(self, trainer, *arguments):
        if iterations_done(trainer) == middle:
            LISTENER.asked = 15
        real(self, trainer, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunCheckpoint, "on_train_batch_start", hear)
        assert run(configure(*TYPED, run_dir=tmp_path / "half")) == 75
    assert run(configure(f"resume={tmp_path}/half")) == 0
    whole, half = (read(f / "checkpoints" / "last.ckpt")["state_dict"] for f in (finished, tmp_path / "half"))
    assert all(torch.equal(whole[name], half[name]) for name in whole)
    results = [json.loads((f / "metrics.json").read_text()) for f in (finished, tmp_path / "half")]
    assert all(results[0][key] == results[1][key] for key in results[0] if key.startswith(("val/", "test/")))


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["model=vae", "data=python_topics"], "model=vae needs data.num_features or data.image_shape"),
        (["model=cvae", "data=diabetes"], "model=cvae needs data.num_classes"),
        (["model=vae", "data=digits", "data.normalize=true"], "use data.normalize=false"),
    ],
)
def test_pairs_that_cannot_work_are_one_line(tmp_path, overrides, told):
    with pytest.raises(UserError, match=told) as error:
        build(configure(*overrides, run_dir=tmp_path / "run"))
    assert "\n" not in str(error.value)
