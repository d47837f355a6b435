"""Saying inputs again: what is minimized, what noise is, what is measured over batches and processes, whole runs."""

import json
import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn import decomposition
from torch import nn
from torchmetrics.image import PeakSignalNoiseRatio

from zoo.batches import ImageBatch, TableBatch
from zoo.build import build
from zoo.callbacks.checkpointing import RunCheckpoint
from zoo.callbacks.curves import iterations_done
from zoo.checkpoint import read
from zoo.data.base import InMemory
from zoo.errors import UserError
from zoo.losses.reconstruction import contraction, kl_sparsity, squared_errors
from zoo.models.autoencoder import Autoencoder
from zoo.run import configure, run
from zoo.running.signals import LISTENER
from zoo.tasks.reconstruction import Reconstruction
from zoo.trained.evaluate import evaluate

SGD = partial(torch.optim.SGD, lr=0.1)
SHAPE = (1, 3, 2)


def images(number=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(number, *SHAPE, generator=generator, dtype=torch.float64)
    return ImageBatch(x, torch.arange(number) % 3)


def model_of(**settings):
    torch.manual_seed(0)
    return Autoencoder(**({"image_shape": SHAPE, "hidden_features": [5], "latent_size": 2} | settings)).double()


def task_of(model=None, **settings):
    return Reconstruction(model or model_of(), SGD, **settings)


class Data:
    """What a task asks of a data module."""

    train_batch_size, eval_batch_size = 10, 6
    preprocessing = {"kind": "image", "mean": [0.0], "std": [1.0]}  # noqa: RUF012

    def part(self, name):
        return InMemory(ImageBatch, *images(40, seed=5))

    def prepare(self):
        return self


def attached(task, *, rank=0, world_size=1, epoch=0):
    task._trainer = SimpleNamespace(
        datamodule=Data(), global_rank=rank, world_size=world_size, current_epoch=epoch, accumulate_grad_batches=1
    )
    return task


def logged(task, stage, batch, sizes, monkeypatch):
    """What a pass over a batch, cut into pieces of these sizes, logs."""
    found = {}
    monkeypatch.setattr(task, "log_dict", lambda values, **options: found.update(values))
    task.eval()
    task.start(stage)
    with torch.inference_mode():
        for number, pieces in enumerate(zip(*(tensor.split(sizes) for tensor in batch), strict=True)):
            task.batch_at_hand = (stage, number)
            task.evaluate(stage, type(batch)(*pieces))
        task.finish(stage)
    return {name.removeprefix(f"{stage}/"): float(value) for name, value in found.items()}


# ---- the loss


@pytest.mark.parametrize("loss", ["mse", "bce"])
def test_the_loss_is_the_sum_over_values_and_the_mean_over_samples(loss):
    batch, task = images(), task_of(loss=loss)
    answer = task.model(batch.image)
    said = answer.sigmoid() if loss == "bce" else answer
    found = task.losses(batch)
    torch.testing.assert_close(found["squared_error"], ((said - batch.image) ** 2).sum() / 10)
    binary = nn.functional.binary_cross_entropy(said.clamp(0, 1), batch.image, reduction="sum") / 10
    torch.testing.assert_close(found["loss"], binary if loss == "bce" else found["squared_error"])


def test_what_is_asked_of_codes_is_added_by_its_weight():
    batch, model = images(), model_of(hidden_features=[], code_activation="Sigmoid")
    codes, plain = model.encode(batch.image), task_of(model).losses(batch)["loss"]
    terms = {
        "sparsity": (
            kl_sparsity(codes.mean(0), 0.2),
            {"sparsity": "kl", "target_activity": 0.2, "sparsity_weight": 3.0},
        ),
        "contraction": (contraction(model.encode, batch.image).mean(), {"contraction": 3.0}),
    }
    terms["l1"] = (codes.abs().sum(1).mean(), {"sparsity": "l1", "sparsity_weight": 3.0})
    for name, (value, settings) in terms.items():
        found = task_of(model, **settings).losses(batch)
        torch.testing.assert_close(found["loss"], plain + 3 * value, msg=name)
        torch.testing.assert_close(found["sparsity" if name == "l1" else name], value)


def test_activities_are_summed_in_32_bits():
    task = Reconstruction(Autoencoder(in_features=4, latent_size=3), SGD, sparsity="kl", sparsity_weight=1.0)
    codes = torch.ones(1000, 3)
    codes[:4] = 0  # a share of 0.996, which 16 bits do not have
    found = task.kl_of_batch(codes.bfloat16())
    torch.testing.assert_close(found, task.kl_of_batch(codes), rtol=1e-4, atol=1e-5)


def test_activities_of_two_processes_have_the_gradient_of_one():
    """KL is of the mean over all samples; each process knows its own alone until they are added up."""
    settings = {"sparsity": "kl", "sparsity_weight": 2.0}
    batch, model = images(), model_of(code_activation="Sigmoid")
    whole = task_of(model, **settings).losses(batch)
    whole["loss"].backward()
    expected = [p.grad.clone() for p in model.parameters()]
    parts = [ImageBatch(*(tensor[rank::3] for tensor in batch)) for rank in range(3)]
    codes = model.encode(batch.image).detach()
    totals = torch.cat([codes.sum(0), torch.tensor([10.0])])
    sums = [torch.zeros_like(p) for p in model.parameters()]
    for rank, part in enumerate([*parts, ImageBatch(batch.image[:0], batch.label[:0])]):
        task = attached(task_of(model, **settings), rank=rank, world_size=4)
        task.add_up = lambda tensor: tensor.copy_(totals)
        model.zero_grad()
        found = task.losses(part)
        torch.testing.assert_close(found["sparsity"], whole["sparsity"])
        if len(part.image):
            found["loss"].backward()
            for total, p in zip(sums, model.parameters(), strict=True):
                total += p.grad * len(part.image) / 10
    for ours, one in zip(sums, expected, strict=True):
        assert one.abs().sum() > 0
        torch.testing.assert_close(ours, one, rtol=0, atol=1e-12)


# ---- noise


def seen_by(task, x, stage="train", number=0):
    task.batch_at_hand = (stage, number)
    return task.seen(x)


@pytest.mark.parametrize("noise", ["gaussian", "masking", "salt_and_pepper"])
def test_noise_depends_on_its_place_alone(noise):
    x = images().image
    first, later = (attached(task_of(noise=noise, noise_level=0.5), epoch=epoch) for epoch in (0, 1))
    drawn = seen_by(first, x)
    torch.rand(3)
    assert torch.equal(seen_by(first, x), drawn)
    assert not torch.equal(drawn, x)
    others = [
        seen_by(first, x, number=1),
        seen_by(later, x),
        seen_by(first, x[:6], "val"),
        seen_by(first, x[:6], "test"),
    ]
    others.append(seen_by(attached(task_of(noise=noise, noise_level=0.5, seed=1)), x))
    assert all(not torch.equal(other, drawn[: len(other)]) for other in others)
    assert torch.equal(seen_by(first, x[:6], "val"), seen_by(later, x[:6], "val")), "epochs are judged alike"
    both = [attached(task_of(noise=noise, noise_level=0.5), rank=rank, world_size=2) for rank in (0, 1)]
    for rank, task in enumerate(both):
        assert torch.equal(seen_by(task, x[rank::2]), drawn[rank::2])
    assert torch.equal(x, images().image), "the batch itself is left alone"


def test_what_is_said_of_the_spoilt_input_is_compared_with_the_input_without_noise(monkeypatch):
    batch, task = images(6), attached(task_of(noise="masking", noise_level=0.4))
    seen = seen_by(task, batch.image, "val")
    found = logged(task, "val", batch, [6], monkeypatch)
    errors = {
        "denoising_squared_error": (task.model(seen), batch.image),
        "squared_error": (task.model(batch.image), batch.image),
        "noise_squared_error": (seen, batch.image),
    }
    for name, pair in errors.items():
        assert found[name] == pytest.approx(squared_errors(*pair).mean().item()), name
    assert found["loss"] == found["denoising_squared_error"] != found["squared_error"]
    drawn, trained = seen_by(task, batch.image), task.train().losses(batch)
    torch.testing.assert_close(trained["loss"], squared_errors(task.model(drawn), batch.image).mean())


# ---- what is measured


@pytest.mark.parametrize("sizes", [[6, 4], [1, 6, 3]], ids=str)
def test_a_part_is_judged_as_a_whole_however_it_is_cut(sizes, monkeypatch):
    model = model_of(code_activation="Sigmoid")
    task = attached(task_of(model, sparsity="kl", sparsity_weight=2.0, contraction=0.5))
    batch, train = images(), images(40, seed=5).image
    found = logged(task, "test", batch, sizes, monkeypatch)
    x, said = batch.image, model(batch.image)
    error = ((said - x) ** 2).sum().item() / 10
    constant = ((x - train.mean(0)) ** 2).sum().item() / 10
    theirs = decomposition.PCA(2).fit(train.flatten(1).numpy())
    back = theirs.inverse_transform(theirs.transform(x.flatten(1).numpy()))
    pca = np.square(back - x.flatten(1).numpy()).sum() / 10
    psnr = PeakSignalNoiseRatio(data_range=1.0)(said.detach(), x).item()
    kl = kl_sparsity(model.encode(x).mean(0), 0.05).item()
    norm = contraction(model.encode, x).mean().item()
    wanted = {
        "squared_error": error, "constant_squared_error": constant, "pca_squared_error": pca, "psnr": psnr,
        "r2": 1 - error / constant, "pca_r2": 1 - pca / constant, "sparsity": kl, "contraction": norm,
        "activity": model.encode(x).mean().item(), "loss": error + 2 * kl + 0.5 * norm,
    }  # fmt: skip
    assert found == pytest.approx(wanted, rel=1e-5)


def test_a_model_that_has_found_pca_is_as_good_as_pca(monkeypatch):
    model = model_of(hidden_features=[])
    task = attached(task_of(model))
    task.start("test")
    mean, directions = task.pca
    with torch.no_grad():
        model.encoder[0].weight.copy_(directions)
        model.encoder[0].bias.copy_(-directions @ mean)
        model.decoder[0].weight.copy_(directions.T)
        model.decoder[0].bias.copy_(mean)
    found = logged(task, "test", images(), [6, 4], monkeypatch)
    assert found["squared_error"] == pytest.approx(found["pca_squared_error"])
    assert "pca_squared_error" not in logged(task, "val", images(), [6, 4], monkeypatch)
    assert "pca_squared_error" not in logged(attached(task_of(pca=False)), "test", images(), [6, 4], monkeypatch)


def test_psnr_is_of_pixels_between_0_and_1_alone(monkeypatch):
    task = attached(task_of())
    task.trainer.datamodule.preprocessing = {"kind": "image", "mean": [0.1], "std": [0.3]}
    assert "psnr" not in logged(task, "val", images(), [6, 4], monkeypatch)
    task.trainer.datamodule.preprocessing = Data.preprocessing
    task.num_values = 6
    assert task.derived({"squared_error": 0.0})["psnr"] == math.inf


def test_pictures_are_of_images_and_codes_of_all():
    shown = task_of(noise="gaussian").show(images(30))
    assert [text.get_text() for text in shown["reconstructions"].axes[0].texts] == [
        "input",
        "with noise",
        "reconstruction",
    ]
    assert shown["codes"].axes[0].get_title() == "the 2 codes"
    model = Autoencoder(in_features=4, hidden_features=[5], latent_size=3)
    rows = TableBatch(torch.randn(8, 4), torch.randn(8, 1))
    of_table = task_of(model, class_names=["price"]).show(rows)
    assert list(of_table) == ["reconstructions", "codes"]
    points = of_table["reconstructions"].axes[1].collections[0].get_offsets()
    assert np.allclose(points, torch.stack([rows.inputs[0][:, 1], model(rows.inputs[0])[:, 1]], 1).detach())
    assert of_table["codes"].axes[0].get_title() == "first two principal components of 3 codes"
    nn.init.constant_(model.encoder[0].weight, math.nan)
    assert list(task_of(model).show(rows)) == ["reconstructions"]


# ---- whole runs

TINY = ("model=autoencoder", "model.hidden_features=[12]", "model.latent_size=3", "data.fraction=0.1")
TINY += ("data.batch_size=20", "trainer.max_epochs=2", "trainer.num_threads=1", "logger=none", "task.noise=masking")
TINY += ("model.code_activation=Sigmoid", "task.sparsity=kl", "task.contraction=0.01")


def test_a_run_that_was_stopped_inside_an_epoch_ends_like_one_that_was_not(tmp_path):
    assert run(configure(*TINY, run_dir=tmp_path / "whole")) == 0
    real = RunCheckpoint.on_train_batch_start

    def hear(self, trainer, *arguments):
        if iterations_done(trainer) == 9:  # inside the second epoch
            LISTENER.asked = 15
        real(self, trainer, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunCheckpoint, "on_train_batch_start", hear)
        assert run(configure(*TINY, run_dir=tmp_path / "half")) == 75
    assert run(configure(f"resume={tmp_path}/half")) == 0
    whole, found = (read(tmp_path / name / "checkpoints" / "last.ckpt")["state_dict"] for name in ("whole", "half"))
    assert all(torch.equal(whole[name], found[name]) for name in whole)
    written, half = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("whole", "half"))
    assert {k: v for k, v in written.items() if "/" in k} == {k: v for k, v in half.items() if "/" in k}
    judged = evaluate(str(tmp_path / "whole")).metrics
    assert {"test/squared_error", "test/denoising_squared_error", "test/pca_squared_error", "test/psnr"} <= set(judged)
    assert {name: written[name] for name in judged} == judged


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["task.loss=bce", "model.output_activation=Sigmoid"], "use model.output_activation=null"),
        (["task.loss=bce", "data.normalize=true"], "use data.normalize=false"),
        (["task.loss=bce", "data=diabetes"], "use task.loss=mse"),
        (["task.noise=salt_and_pepper", "data=diabetes"], "use task.noise=gaussian or masking"),
        (["task.noise=mask"], "did you mean 'masking'"),
        (["task.noise=masking", "task.noise_level=1.5"], "how often task.noise=masking spoils a value"),
        (["task.sparsity=kl"], "use model.code_activation=Sigmoid"),
        (["task.sparsity=kl", "task.target_activity=1.0"], "between 0 and 1"),
        (
            ["data=python_docs"],
            "needs data.num_features or data.image_shape|needs data.image_shape or data.num_features",
        ),
        (["model=conv_autoencoder", "data=diabetes"], "needs data.image_shape"),
        (["model=vae", "task=reconstruction"], "trained by task=variational"),
        (["model=stacked_autoencoder", "task=reconstruction"], "gives back no input by itself; use model=autoencoder"),
        (
            ["model=lenet5", "task=reconstruction", "task.pca=false"],
            "is not for model=lenet5.*Models for it: autoencoder",
        ),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, overrides, told):
    model = [] if overrides[0].startswith("model=") else ["model=autoencoder"]
    with pytest.raises(UserError, match=told) as error:
        build(configure(*model, *overrides, run_dir=tmp_path / "run"))
    assert "\n" not in str(error.value)
