import html
import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from sklearn import metrics as sk
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from zoo.batches import ImageBatch, TableBatch, TextBatch
from zoo.errors import UserError
from zoo.losses.supervised import LOSSES
from zoo.models.mlp import MLP
from zoo.models.perceptron import Perceptron
from zoo.run import configure, run
from zoo.tasks.base import Means
from zoo.tasks.supervised import KINDS, Classification, Regression
from zoo.text import fit

SGD = partial(torch.optim.SGD, lr=0.1)
UNEVEN = [[50], [1, 49], [16, 16, 16, 2], [7, 30, 13]]  # sizes of batches of one and the same 50 samples


class Given(nn.Module):
    """Answers with its inputs."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class Ending(nn.Module):
    """Answers with its inputs, through a Softmax, a Sigmoid or nothing."""

    def __init__(self, name: str | None) -> None:
        super().__init__()
        self.gives_probabilities = name is not None
        self.output_activation = {"Softmax": nn.Softmax(dim=1), "Sigmoid": nn.Sigmoid(), None: nn.Identity()}[name]

    def forward(self, x: Tensor) -> Tensor:
        return self.output_activation(x)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def finished(task, outputs: Tensor, targets: Tensor, sizes: list[int], monkeypatch, stage: str = "val") -> dict:
    """What a pass over the samples, cut into batches of these sizes, logs at its end."""
    logged: dict[str, float] = {}
    monkeypatch.setattr(task, "log_dict", lambda values, **options: logged.update(values))
    task.start(stage)
    for x, y in zip(outputs.split(sizes), targets.split(sizes), strict=True):
        task.evaluate(stage, TableBatch(x, y))
    task.finish(stage)
    return {name.removeprefix(f"{stage}/"): value for name, value in logged.items()}


@pytest.mark.parametrize("sizes", UNEVEN, ids=str)
@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_metrics_of_uneven_batches_are_those_of_the_whole_set(num_classes, sizes, monkeypatch):
    logits, y = randn(50, num_classes), torch.arange(50) % min(num_classes, 9)  # of 10 classes, one is absent
    task = Classification(Given(), SGD, num_classes=num_classes, top_k=num_classes)
    found = finished(task, logits, y, sizes, monkeypatch)
    predicted = logits.argmax(1)
    assert found["loss"] == pytest.approx(nn.functional.cross_entropy(logits, y).item(), rel=1e-6)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(y, predicted))
    assert found["f1"] == pytest.approx(sk.f1_score(y, predicted, average="macro"))
    assert np.array_equal(
        task.collection("val")["confusion"].compute(), sk.confusion_matrix(y, predicted, labels=range(num_classes))
    )


@pytest.mark.parametrize("num_right", [1, 16])
def test_a_first_batch_that_is_all_right_does_not_make_f1_count_the_best_five(num_right, monkeypatch):
    y = torch.arange(50) % 10
    logits = randn(50, 10)
    logits[:num_right] = 9.0 * torch.eye(10)[y[:num_right]]
    task = Classification(Given(), SGD, num_classes=10, top_k=5)
    found = finished(task, logits, y, [num_right, 50 - num_right], monkeypatch)
    assert found["accuracy_top5"] == pytest.approx(sk.top_k_accuracy_score(y, logits, k=5))
    assert found["f1"] == pytest.approx(sk.f1_score(y, logits.argmax(1), average="macro"))


@pytest.mark.parametrize("sizes", UNEVEN, ids=str)
def test_binary_metrics_are_those_of_the_whole_set(sizes, monkeypatch):
    logits, y = randn(50, 1), (torch.arange(50) % 3 == 0).long()
    found = finished(Classification(Given(), SGD, kind="binary", num_classes=2, loss="binary_cross_entropy"),
                     logits, y, sizes, monkeypatch)  # fmt: skip
    predicted = logits[:, 0] > 0
    assert found["loss"] == pytest.approx(sk.log_loss(y, logits[:, 0].double().sigmoid()), rel=1e-6)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(y, predicted))
    assert found["f1"] == pytest.approx(sk.f1_score(y, predicted))


@pytest.mark.parametrize("sizes", UNEVEN, ids=str)
@pytest.mark.parametrize("num_labels", [2, 5])
def test_multilabel_metrics_are_those_of_the_whole_set(num_labels, sizes, monkeypatch):
    logits, y = randn(50, num_labels), (randn(50, num_labels, seed=1) > 0.5).float()
    task = Classification(Given(), SGD, kind="multilabel", num_classes=num_labels, loss="binary_cross_entropy")
    found = finished(task, logits, y, sizes, monkeypatch)
    predicted = (logits > 0).float()
    assert found["loss"] == pytest.approx(nn.functional.binary_cross_entropy_with_logits(logits, y).item(), rel=1e-6)
    assert found["accuracy"] == pytest.approx((predicted == y).double().mean().item())
    assert found["f1"] == pytest.approx(sk.f1_score(y, predicted, average="macro"))


@pytest.mark.parametrize("sizes", UNEVEN, ids=str)
@pytest.mark.parametrize(("mean", "std"), [(None, None), ([-3.0], [0.5]), ([150.0], [77.0])])
def test_regression_metrics_are_in_the_targets_own_units(mean, std, sizes, monkeypatch):
    outputs, y = randn(50, 1), randn(50, 1, seed=1)
    found = finished(Regression(Given(), SGD, target_mean=mean, target_std=std), outputs, y, sizes, monkeypatch)
    shift, spread = (mean or [0.0])[0], (std or [1.0])[0]
    true, predicted = y.double() * spread + shift, outputs.double() * spread + shift
    assert found["loss"] == pytest.approx(((outputs - y) ** 2).mean().item(), rel=1e-5)  # of standardized targets
    assert found["mse"] == pytest.approx(sk.mean_squared_error(true, predicted), rel=1e-4)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(true, predicted), rel=1e-4)
    assert found["r2"] == pytest.approx(sk.r2_score(true, predicted), rel=1e-3)


@pytest.mark.parametrize(("mean", "std"), [(2000.0, 1.0), (1e6, 1e3)])
def test_r2_is_right_for_targets_far_from_zero(mean, std, monkeypatch):
    y = randn(50, 1, seed=1)
    outputs = y + 0.5 * randn(50, 1)
    found = finished(Regression(Given(), SGD, target_mean=[mean], target_std=[std]), outputs, y, [50], monkeypatch)
    assert found["r2"] == pytest.approx(sk.r2_score(y, outputs), rel=1e-3)  # R2 has no unit


def test_errors_of_several_targets_are_means_over_the_columns(monkeypatch):
    outputs, y = randn(50, 2), randn(50, 2, seed=1)
    task = Regression(Given(), SGD, num_targets=2, target_mean=[10.0, -1.0], target_std=[3.0, 0.1])
    found = finished(task, outputs, y, [30, 20], monkeypatch)
    true, predicted = task.in_units(y), task.in_units(outputs)
    assert found["mse"] == pytest.approx(sk.mean_squared_error(true, predicted), rel=1e-5)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(true, predicted), rel=1e-5)


def test_r2_of_several_targets_is_the_mean_of_their_r2(monkeypatch):
    outputs, y = randn(50, 2), randn(50, 2, seed=1)
    task = Regression(Given(), SGD, num_targets=2, target_mean=[10.0, -1.0], target_std=[3.0, 0.1])
    found = finished(task, outputs, y, [30, 20], monkeypatch)
    assert found["r2"] == pytest.approx(sk.r2_score(y, outputs), rel=1e-3)


@pytest.mark.parametrize("stage", ["val", "test"])
def test_a_second_pass_forgets_the_first(stage, monkeypatch):
    logits, y = randn(50, 3), torch.arange(50) % 3
    task = Classification(Given(), SGD, num_classes=3)
    finished(task, -logits, y, [50], monkeypatch, stage)
    again = finished(task, logits, y, [50], monkeypatch, stage)
    alone = finished(Classification(Given(), SGD, num_classes=3), logits, y, [50], monkeypatch, stage)
    assert again == alone


@pytest.mark.parametrize("sizes", [[5], [1, 4], [2, 2, 1]])
def test_means_weight_each_batch_by_its_samples(sizes):
    values, means = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]), Means()
    for part in values.split(sizes):
        means.add({"loss": part.mean()}, len(part))
    assert means.compute() == pytest.approx({"loss": 31 / 5})
    assert means.so_far() == pytest.approx({"loss": 31 / 5})
    means.reset()
    assert means.compute() == {}


TASKS = {
    "multiclass": (Classification, {"num_classes": 3}, torch.arange(6) % 3, 3),
    "binary": (
        Classification, {"num_classes": 2, "kind": "binary", "loss": "binary_cross_entropy"}, torch.arange(6) % 2, 1
    ),
    "multilabel": (
        Classification, {"num_classes": 2, "kind": "multilabel", "loss": "binary_cross_entropy"},
        torch.eye(2)[[0, 1] * 3], 2
    ),
    "regression": (Regression, {}, torch.arange(6.0)[:, None], 1),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "options", "targets", "num_outputs"), TASKS.values(), ids=TASKS)
def test_backward_computes_gradients_and_only_the_optimizer_moves_weights(kind, options, targets, num_outputs):
    model = MLP(in_features=4, out_features=num_outputs, hidden_features=[5])
    task = kind(model, SGD, **options)
    optimizer = task.build_optimizer(model.parameters())
    before = [p.detach().clone() for p in model.parameters()]
    task.losses(TableBatch(randn(6, 4), targets))["loss"].backward()
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    assert all(p.grad is not None for p in model.parameters())
    optimizer.step()
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert not torch.equal(parameter, old)
        torch.testing.assert_close(parameter.detach(), old - 0.1 * parameter.grad)


@pytest.mark.parametrize(("kind", "options", "targets", "num_outputs"), TASKS.values(), ids=TASKS)
def test_the_loss_of_a_batch_is_finite_and_its_accuracy_a_share(kind, options, targets, num_outputs):
    losses = kind(Given(), SGD, **options).losses(TableBatch(randn(6, num_outputs), targets))
    assert all(value.shape == () and value.isfinite() for value in losses.values())
    assert 0 <= losses.get("accuracy", torch.tensor(0.5)) <= 1


def test_classes_are_ranked_by_net_inputs_where_outputs_are_0_and_1(monkeypatch):
    model = Perceptron(in_features=1, num_classes=3)
    model.units.weight.data.copy_(torch.tensor([[1.0], [2.0], [3.0]]))
    task = Classification(model, SGD, num_classes=3, loss="half_squared_error")
    found = finished(task, torch.tensor([[1.0], [-1.0]]), torch.tensor([2, 0]), [2], monkeypatch)
    assert found["accuracy"] == 1  # all three units fire for the first sample, none for the second
    assert found["loss"] == pytest.approx((0.5 * 2 + 0.5 * 1) / 2)


def test_class_weights_and_label_smoothing_reach_the_loss():
    logits, y = randn(6, 3), torch.arange(6) % 3
    task = Classification(Given(), SGD, num_classes=3, class_weights=[1.0, 2.0, 3.0], label_smoothing=0.2)
    expected = nn.functional.cross_entropy(logits, y, weight=torch.tensor([1.0, 2.0, 3.0]), label_smoothing=0.2)
    assert task.losses(TableBatch(logits, y))["loss"].item() == pytest.approx(expected.item())
    assert "class_weights" not in task.state_dict()


CHOICES = [(kind, name) for kind in (*KINDS, "regression") for name, loss in LOSSES.items() if kind in loss.kinds]


def made(kind: str, loss: str, **options):
    """A task of this kind with this loss over a model that answers with its inputs, or with probabilities of them."""
    model = Ending("Softmax" if kind == "multiclass" else "Sigmoid") if "of_prob" in loss else Given()
    if kind == "regression":
        return Regression(model, SGD, loss=loss, **options)
    return Classification(model, SGD, kind=kind, num_classes=3 if kind == "multiclass" else 2, loss=loss, **options)


@pytest.mark.parametrize(("kind", "loss"), CHOICES)
def test_every_loss_of_a_kind_can_be_chosen_and_is_a_mean_over_the_batch(kind, loss):
    _, _, targets, num_outputs = TASKS[kind]
    task, x = made(kind, loss), randn(6, num_outputs)

    def value(*rows: int) -> float:
        return task.losses(TableBatch(x[list(rows)], targets[list(rows)]))["loss"].item()

    assert value(0, 1, 2, 3, 4, 5) == pytest.approx((2 * value(0, 1) + 4 * value(2, 3, 4, 5)) / 6, rel=1e-5)
    assert math.isnan(value()) or value() == 0  # a process without samples: zoo.tasks.base leaves it out


@pytest.mark.parametrize(("kind", "loss"), [choice for choice in CHOICES if choice[0] != "regression"])
def test_learning_by_any_loss_finds_the_right_classes(kind, loss, monkeypatch):
    _, _, targets, num_outputs = TASKS[kind]
    task = made(kind, loss)
    x = (0.1 * randn(6, num_outputs)).requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        task.losses(TableBatch(x, targets))["loss"].backward()
        optimizer.step()
    found = finished(task, x.detach(), targets, [6], monkeypatch)
    assert found["accuracy"] == found["f1"] == 1


@pytest.mark.parametrize(("kind", "loss"), CHOICES)
def test_a_loss_takes_the_options_that_it_names_and_refuses_the_others(kind, loss):
    _, _, targets, num_outputs = TASKS[kind]
    batch = TableBatch(3 * randn(6, num_outputs), targets)
    weights = [1.0, 5.0, 2.0] if kind == "multiclass" else [1.0, 5.0]
    given = {"class_weights": weights, "label_smoothing": 0.3, "delta": 0.5}
    for name in ("delta",) if kind == "regression" else given:
        if name in LOSSES[loss].options:
            changed = made(kind, loss, **{name: given[name]}).losses(batch)["loss"]
            assert not torch.isclose(changed, made(kind, loss).losses(batch)["loss"])
        else:
            with pytest.raises(UserError, match=f"task.loss={loss} knows no {name}; losses that would do: "):
                made(kind, loss, **{name: given[name]})


def test_targets_may_be_distributions_over_classes(monkeypatch):
    logits, y = randn(50, 3), torch.arange(50) % 3
    soft = 0.9 * nn.functional.one_hot(y, 3) + 0.1 / 3
    by_index = finished(Classification(Given(), SGD, num_classes=3), logits, y, [50], monkeypatch)
    for loss in ("cross_entropy", "kl_divergence", "mean_squared_error"):
        task = Classification(Given(), SGD, num_classes=3, loss=loss)
        found = finished(task, logits, soft, [30, 20], monkeypatch)
        assert [found[name] for name in ("accuracy", "f1")] == [by_index[name] for name in ("accuracy", "f1")]
        assert found["loss"] == pytest.approx(LOSSES[loss].function(logits, soft).item())


@pytest.mark.parametrize("kind", ["binary", "multilabel"])
@pytest.mark.parametrize(
    ("loss", "border"), [("hinge", 0.0), ("binary_cross_entropy", 0.0), ("mean_squared_error", 0.5), ("huber", 0.5)]
)
def test_an_output_compared_with_0_and_1_says_yes_above_a_half_and_a_logit_above_0(kind, loss, border):
    task = Classification(Given(), SGD, kind=kind, num_classes=2, loss=loss)
    outputs = torch.tensor([[border - 0.1], [border + 0.1]])
    assert task.predict(outputs).flatten().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("kind", "ending", "of_logits", "of_probabilities"),
    [
        ("multiclass", "Softmax", "cross_entropy", "cross_entropy_of_probabilities"),
        ("binary", "Sigmoid", "binary_cross_entropy", "binary_cross_entropy_of_probabilities"),
        ("multilabel", "Sigmoid", "binary_cross_entropy", "binary_cross_entropy_of_probabilities"),
    ],
)
def test_a_model_of_probabilities_learns_what_one_of_logits_learns(
    kind, ending, of_logits, of_probabilities, monkeypatch
):
    _, options, targets, num_outputs = TASKS[kind]
    sizes, x = {"num_classes": options["num_classes"], "kind": kind}, 3 * randn(6, num_outputs)
    found, gradients = [], []
    for model, loss in ((Given(), of_logits), (Ending(ending), of_probabilities)):
        task, leaf = Classification(model, SGD, loss=loss, **sizes), x.clone().requires_grad_()
        task.losses(TableBatch(leaf, targets))["loss"].backward()
        gradients.append(leaf.grad)
        found.append(finished(task, x, targets, [4, 2], monkeypatch))
    for name, value in found[0].items():
        assert found[1][name].item() == pytest.approx(value.item(), rel=1e-5)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "ending", "loss", "telling"),
    [
        ("multiclass", "Softmax", "cross_entropy", "takes logits, and this Ending gives probabilities"),
        ("multiclass", "Softmax", "hinge", "would do: cross_entropy_of_probabilities, half_squared_error"),
        ("multiclass", None, "cross_entropy_of_probabilities", r"gives logits .*output_activation=Softmax"),
        ("multiclass", None, "cross_entropy_of_probabilities", "would do: cross_entropy, kl_divergence, hinge, "),
        ("multiclass", "Sigmoid", "cross_entropy_of_probabilities", r"not sum to 1 \(or .*=Softmax\)"),
        ("multiclass", "Sigmoid", "cross_entropy", "would do: half_squared_error, mean_squared_error"),
        ("binary", "Sigmoid", "binary_cross_entropy", "would do: binary_cross_entropy_of_probabilities, half"),
        ("binary", None, "binary_cross_entropy_of_probabilities", "output_activation=Sigmoid"),
        ("binary", "Softmax", "mean_squared_error", "makes one output always 1; use model.output_activation=Sigmoid"),
        ("multilabel", "Softmax", "binary_cross_entropy_of_probabilities", "exclude each other"),
        ("regression", "Sigmoid", "mean_squared_error", "use model.output_activation=null"),
    ],
)
def test_a_loss_that_is_not_for_the_models_last_layer_is_refused_in_one_line(kind, ending, loss, telling):
    task = Regression if kind == "regression" else partial(Classification, kind=kind, num_classes=3)
    with pytest.raises(UserError, match=telling) as refused:
        task(Ending(ending), SGD, loss=loss)
    assert "\n" not in str(refused.value)


def test_the_classic_pair_of_sigmoid_outputs_and_squared_errors_is_allowed():
    task = Classification(Ending("Sigmoid"), SGD, num_classes=3, loss="half_squared_error")
    assert task.losses(TableBatch(randn(6, 3), torch.arange(6) % 3))["loss"].isfinite()


def test_huber_takes_its_delta():
    outputs, y = 5 * randn(6, 1), randn(6, 1, seed=1)
    for delta in (0.5, 2.0):
        loss = Regression(Given(), SGD, loss="huber", delta=delta).losses(TableBatch(outputs, y))["loss"]
        assert loss.item() == pytest.approx(nn.functional.huber_loss(outputs, y, delta=delta).item())


@pytest.mark.parametrize(
    ("kind", "wrong", "near"),
    [
        ("multiclass", "crossentropy", "cross_entropy"),
        ("binary", "binary_crossentropy", "binary_cross_entropy"),
        ("regression", "mean_square_error", "mean_squared_error"),
        ("multiclass", "kl_div", "kl_divergence"),
    ],
)
def test_a_misspelt_loss_gets_a_did_you_mean(kind, wrong, near):
    with pytest.raises(UserError, match=f"task.loss={wrong} is not .* did you mean '{near}'"):
        made(kind, wrong)


def test_an_unknown_kind_and_options_that_a_loss_lacks_are_refused():
    with pytest.raises(UserError, match="did you mean 'multilabel'"):
        Classification(Given(), SGD, kind="multi_label", num_classes=3)
    with pytest.raises(UserError, match="knows no label_smoothing; losses that would do: cross_entropy, kl_divergence"):
        Classification(Given(), SGD, num_classes=3, loss="half_squared_error", label_smoothing=0.1)


def test_pictures_of_images_show_the_confusion_and_what_was_mistaken(monkeypatch):
    class Brightest(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image.flatten(1)[:, :3]

    images, y = randn(6, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    task = Classification(Brightest(), SGD, num_classes=3, class_names=["ant", "bee", "cat"])
    task.start("val")
    assert list(task.show(ImageBatch(images, y))) == ["predictions", "misclassified", "saliency"]
    task.evaluate("val", ImageBatch(images, y))
    shown = task.show(ImageBatch(images, y))
    assert list(shown) == ["confusion_matrix", "predictions", "misclassified", "saliency"]
    predicted = images.flatten(1)[:, :3].argmax(1)
    names = task.class_names
    expected = [names[p] if p == t else f"{names[p]} (is {names[t]})" for p, t in zip(predicted, y, strict=True)]
    assert [text.get_text() for text in shown["predictions"].axes[0].texts] == expected
    assert [text.get_text() for text in shown["misclassified"].axes[0].texts] == [c for c in expected if " (is " in c]


@pytest.mark.parametrize("kind", ["multiclass", "binary"])
def test_texts_are_shown_as_the_model_sees_them_with_what_it_says(kind, monkeypatch):
    """The answer is the number of the text's first word."""

    class FirstWord(nn.Module):
        def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
            ones = functional.one_hot(tokens[:, 0] - 2, 3).float()  # (B, 3)
            return ones if kind == "multiclass" else 2 * ones[:, 1:2] - 1

    tokens = torch.tensor([[2, 3, 0], [3, 3, 3], [3, 2, 0]])
    batch = TextBatch(tokens, tokens > 0, torch.tensor([0, 1, 0]))
    names = ["ant", "bee", "cat"][: 3 if kind == "multiclass" else 2]
    loss = "cross_entropy" if kind == "multiclass" else "binary_cross_entropy"
    task = Classification(FirstWord(), SGD, kind=kind, num_classes=len(names), class_names=names, loss=loss)
    tokenizer = fit("word", ["ant bee"], special=("<pad>", "<unk>"))
    monkeypatch.setattr(task, "_trainer", SimpleNamespace(datamodule=SimpleNamespace(tokenizer=tokenizer)))
    task.start("val")
    shown = {name: html.unescape(text).splitlines() for name, text in task.show(batch).items()}
    sure = "0.58" if kind == "multiclass" else "0.73"  # e / (e + 2), e / (e + 1)
    assert shown == {
        "predictions": [f"* ant {sure}: ant bee", f"* bee {sure}: bee bee bee", f"* bee {sure}, **is ant**: bee ant"],
        "misclassified": [f"* bee {sure}, **is ant**: bee ant"],
    }


def test_a_run_over_texts_shows_them_and_no_kernels_over_axes_of_words(tmp_path):
    short = ["trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.limit_test_batches=1"]
    assert (
        run(configure("model=textcnn", "data=python_topics", "data.max_vocab_size=50", *short, run_dir=tmp_path)) == 0
    )
    tags = EventAccumulator(str(tmp_path)).Reload().Tags()
    assert {f"samples/{name}/text_summary" for name in ("predictions", "misclassified")} <= set(tags["tensors"])
    assert "samples/kernels" not in tags["images"]


@pytest.mark.parametrize(
    ("max_epochs", "max_steps"),
    [(4, -1), (1000, 14), (-1, 14)],
)
def test_schedules_are_told_how_many_iterations_an_epoch_has(max_epochs, max_steps, tmp_path):
    told = {}

    def schedule(optimizer, total_iterations, iterations_per_epoch):
        told.update(total=total_iterations, per_epoch=iterations_per_epoch)
        return {"scheduler": torch.optim.lr_scheduler.ConstantLR(optimizer), "interval": "step"}

    class Seven(LightningDataModule):
        def train_dataloader(self):
            batches = [TableBatch(randn(2, 4), torch.tensor([0, 1]))] * 7
            return DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)

    task = Classification(MLP(in_features=4, out_features=2, hidden_features=[]), SGD, schedule, num_classes=2)
    trainer = Trainer(
        max_epochs=max_epochs, max_steps=max_steps, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(task, datamodule=Seven())
    assert told == {"total": 28 if max_steps < 0 else max_steps, "per_epoch": 7}


def test_a_set_of_one_sample_has_errors_too(monkeypatch):
    found = finished(Regression(Given(), SGD), randn(1, 1), randn(1, 1, seed=1), [1], monkeypatch)
    assert found["mse"] > 0


def test_training_and_validation_count_a_score_just_above_0_alike(monkeypatch):
    scores, y = torch.full((4, 1), 1e-9), torch.ones(4, dtype=torch.long)
    task = Classification(Given(), SGD, kind="binary", num_classes=2, loss="binary_cross_entropy")
    found = finished(task, scores, y, [4], monkeypatch)
    assert found["accuracy"] == task.losses(TableBatch(scores, y))["accuracy"].item()


@pytest.mark.parametrize(("kind", "num_classes"), [("multiclass", 3), ("binary", 2), ("multilabel", 3)])
@pytest.mark.parametrize("sizes", [(40,), (17, 3, 20)], ids=str)
def test_precision_against_recall_is_that_of_the_whole_part(kind, num_classes, sizes):
    """By scikit-learn's counts at one of the thresholds, of each class against all others."""
    generator = torch.Generator().manual_seed(1)
    outputs = 1 if kind == "binary" else num_classes
    scores = torch.randn(40, outputs, generator=generator)
    answer = torch.randint(num_classes, (40,), generator=generator)
    if kind != "multiclass":
        answer = (torch.rand(40, outputs, generator=generator) > 0.6).float().squeeze(1)
    task = Classification(
        nn.Identity(),
        SGD,
        kind=kind,
        num_classes=num_classes,
        loss="cross_entropy" if kind == "multiclass" else "binary_cross_entropy",
    )
    task.start("val")
    for x, y in zip(scores.split(sizes), answer.split(sizes), strict=True):
        task.evaluate("val", TableBatch(x, y))
    task.whole_set_metrics("val")
    found = task.ranked
    assert list(found.names) == (["1"] if kind == "binary" else ["0", "1", "2"])
    chances = scores.softmax(1) if kind == "multiclass" else scores.sigmoid()
    true = nn.functional.one_hot(answer, 3) if kind == "multiclass" else answer.reshape(40, -1)
    for k in range(outputs):
        curve = found.of_class(k)
        for place in (0, 20, 45):  # thresholds of 0, 0.4 and 0.9
            said = chances[:, k] >= place / 50
            expected = sk.confusion_matrix(true[:, k], said, labels=[0, 1])
            assert found.counts[place, k].tolist() == expected.tolist()
            if said.any():
                assert curve["precision"][place] == pytest.approx(sk.precision_score(true[:, k], said))
            assert curve["recall"][place] == pytest.approx(sk.recall_score(true[:, k], said, zero_division=0))


def test_scores_that_are_no_numbers_and_very_many_classes_have_no_curve():
    task = Classification(nn.Identity(), SGD, num_classes=3)
    task.start("val")
    task.evaluate("val", TableBatch(torch.full((2, 3), torch.nan), torch.tensor([0, 1])))
    task.whole_set_metrics("val")
    assert "precision_recall" not in task.show(TableBatch(torch.zeros(2, 3), torch.tensor([0, 1])))
    many = Classification(nn.Identity(), SGD, num_classes=21)
    many.start("val")
    many.evaluate("val", TableBatch(torch.zeros(2, 21), torch.tensor([0, 1])))
    many.whole_set_metrics("val")
    assert many.ranked is None


def test_weights_of_classes_may_be_whole_numbers_and_weigh_the_batch():
    task = Classification(Given(), SGD, num_classes=3, class_weights=[1, 2, 3])
    batch = TableBatch(torch.zeros(4, 3), torch.tensor([0, 2, 2, 1]))
    assert task.losses(batch)["loss"].item() == pytest.approx(math.log(3))
    assert task.count_items(batch) == 9
    assert task.over_samples(4) == {"accuracy": 4}
    assert Classification(Given(), SGD, num_classes=3).count_items(batch) == 4
