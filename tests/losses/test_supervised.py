import inspect
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.losses import supervised

SIZES = [(1, 2), (7, 3), (64, 10)]


def randn(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(num_samples: int, num_classes: int) -> Tensor:
    return torch.randint(num_classes, (num_samples,), generator=torch.Generator().manual_seed(1))


def assert_same(outputs: Tensor, *functions: Callable[[Tensor], Tensor]) -> None:
    """All functions have the value and the gradient of the first."""
    found = []
    for function in functions:
        leaf = outputs.clone().requires_grad_()
        value = function(leaf)
        assert value.shape == ()
        value.backward()
        assert leaf.grad is not None
        found.append((value.detach(), leaf.grad))
    for value, gradient in found[1:]:
        torch.testing.assert_close(value, found[0][0], rtol=0, atol=1e-12)
        torch.testing.assert_close(gradient, found[0][1], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("num_samples", "num_classes"), SIZES)
def test_cross_entropy_is_the_mean_negative_log_of_the_right_softmax(num_samples, num_classes):
    logits, y = randn(num_samples, num_classes), labels(num_samples, num_classes)

    def formula(a: Tensor) -> Tensor:
        p = a.exp() / a.exp().sum(1, keepdim=True)
        return -torch.stack([p[i, k].log() for i, k in enumerate(y)]).sum() / num_samples

    assert_same(logits, lambda a: supervised.cross_entropy(a, y), formula, lambda a: F.cross_entropy(a, y))


@pytest.mark.parametrize(("num_samples", "num_classes"), SIZES)
@pytest.mark.parametrize("smoothing", [0.1, 1.0])
def test_label_smoothing_spreads_its_share_over_all_classes(num_samples, num_classes, smoothing):
    logits, y = randn(num_samples, num_classes), labels(num_samples, num_classes)
    wanted = (1 - smoothing) * F.one_hot(y, num_classes).double() + smoothing / num_classes
    assert_same(
        logits,
        lambda a: supervised.cross_entropy(a, y, label_smoothing=smoothing),
        lambda a: -(wanted * a.log_softmax(1)).sum(1).mean(),
    )


@pytest.mark.parametrize(("num_samples", "num_classes"), SIZES)
def test_class_weights_weight_the_mean_over_samples(num_samples, num_classes):
    logits, y = randn(num_samples, num_classes), labels(num_samples, num_classes)
    weights = torch.arange(1, num_classes + 1).double()

    def formula(a: Tensor) -> Tensor:
        return -sum(weights[k] * a.log_softmax(1)[i, k] for i, k in enumerate(y)) / weights[y].sum()

    assert_same(logits, lambda a: supervised.cross_entropy(a, y, class_weights=weights), formula)


@pytest.mark.parametrize(("num_samples", "num_labels"), [(1, 1), (7, 1), (1, 4), (16, 4)])
def test_binary_cross_entropy_is_the_mean_over_samples_and_labels(num_samples, num_labels):
    logits, y = randn(num_samples, num_labels), labels(num_samples * num_labels, 2).reshape(num_samples, num_labels)
    targets = y[:, 0] if num_labels == 1 else y.double()  # (B,) with one output, (B, K) with several

    def formula(a: Tensor) -> Tensor:
        s = 1 / (1 + (-a).exp())
        return (-y * s.log() - (1 - y) * (1 - s).log()).sum() / (num_samples * num_labels)

    assert_same(
        logits,
        lambda a: supervised.binary_cross_entropy(a, targets),
        formula,
        lambda a: F.binary_cross_entropy_with_logits(a, y.double()),
    )


@pytest.mark.parametrize("num_samples", [1, 9])
def test_one_logit_for_two_classes_equals_softmax_over_0_and_that_logit(num_samples):
    logits, y = randn(num_samples, 1), labels(num_samples, 2)
    weights = torch.tensor([1.0, 5.0], dtype=torch.float64)
    for options in ({}, {"class_weights": weights}, {"class_weights": weights, "label_smoothing": 0.2}):
        assert_same(
            logits,
            lambda a, o=options: supervised.binary_cross_entropy(a, y, **o),
            lambda a, o=options: supervised.cross_entropy(torch.cat([torch.zeros_like(a), a], 1), y, **o),
        )


def distributions(num_samples: int, num_classes: int) -> Tensor:
    """(B, K) rows that sum to 1, one of them with a 0 in it."""
    y = randn(num_samples, num_classes, seed=2).softmax(1)
    y[0] = F.one_hot(torch.tensor(1), num_classes)
    return y


@pytest.mark.parametrize(("num_samples", "num_classes"), SIZES)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_one_hot_vectors_and_class_indices_give_the_same_cross_entropy(num_samples, num_classes, smoothing, weighted):
    logits, y = randn(num_samples, num_classes), labels(num_samples, num_classes)
    options = {"label_smoothing": smoothing}
    if weighted:
        options["class_weights"] = torch.arange(1, num_classes + 1).double()
    assert_same(
        logits,
        lambda a: supervised.cross_entropy(a, y, **options),
        lambda a: supervised.cross_entropy(a, F.one_hot(y, num_classes), **options),
        lambda a: supervised.cross_entropy(a, F.one_hot(y, num_classes).double(), **options),
        lambda a: supervised.cross_entropy_of_probabilities(a.softmax(1), y, **options),
        lambda a: supervised.cross_entropy_of_probabilities(a.softmax(1), F.one_hot(y, num_classes), **options),
    )


@pytest.mark.parametrize(("num_samples", "num_classes"), SIZES)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_takes_distributions(num_samples, num_classes, smoothing):
    logits, y = randn(num_samples, num_classes), distributions(num_samples, num_classes)
    assert_same(
        logits,
        lambda a: supervised.cross_entropy(a, y, label_smoothing=smoothing),
        lambda a: F.cross_entropy(a, y, label_smoothing=smoothing),
        lambda a: supervised.cross_entropy_of_probabilities(a.softmax(1), y, label_smoothing=smoothing),
    )


@pytest.mark.parametrize(("num_samples", "num_classes"), SIZES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("soft", [False, True], ids=["class indices", "distributions"])
def test_kl_divergence_is_the_cross_entropy_less_the_entropy_of_the_target(num_samples, num_classes, smoothing, soft):
    logits, y = randn(num_samples, num_classes), labels(num_samples, num_classes)
    target = distributions(num_samples, num_classes) if soft else y
    whole = target if soft else F.one_hot(y, num_classes).double()
    whole = (1 - smoothing) * whole + smoothing / num_classes
    entropy = -torch.special.xlogy(whole, whole).sum(1).mean()
    assert_same(
        logits,
        lambda a: supervised.kl_divergence(a, target, label_smoothing=smoothing),
        lambda a: supervised.cross_entropy(a, target, label_smoothing=smoothing) - entropy,
    )


def test_kl_divergence_is_0_for_the_right_distribution_and_above_it_for_any_other():
    y = distributions(50, 4)[1:]
    assert supervised.kl_divergence(y.log(), y).item() == pytest.approx(0, abs=1e-12)
    for seed in range(20):
        assert supervised.kl_divergence(randn(49, 4, seed=seed), y) > 0
    assert supervised.kl_divergence(torch.tensor([[0.0, 200.0]]), torch.tensor([1])).item() == 0  # 0 log 0 = 0


@pytest.mark.parametrize(("num_samples", "num_labels"), [(1, 1), (7, 1), (1, 4), (16, 4)])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_binary_cross_entropy_of_probabilities_equals_that_of_logits(num_samples, num_labels, smoothing):
    logits, y = randn(num_samples, num_labels), labels(num_samples * num_labels, 2).reshape(num_samples, num_labels)
    assert_same(
        logits,
        lambda a: supervised.binary_cross_entropy(a, y, label_smoothing=smoothing),
        lambda a: supervised.binary_cross_entropy_of_probabilities(a.sigmoid(), y, label_smoothing=smoothing),
        lambda a: F.binary_cross_entropy(a.sigmoid(), (1 - smoothing) * y.double() + smoothing / 2),
    )


def test_a_probability_of_0_costs_as_much_as_its_type_can_say_and_is_no_error():
    least = -torch.log(torch.tensor(torch.finfo(torch.float32).tiny)).item()
    p = torch.tensor([[1.0, 0.0]], requires_grad=True)
    loss = supervised.cross_entropy_of_probabilities(p, torch.tensor([1]))
    loss.backward()
    assert loss.item() == pytest.approx(least) == pytest.approx(87.3, abs=0.1)
    assert p.grad.isfinite().all()
    assert supervised.cross_entropy_of_probabilities(p.detach(), torch.tensor([0])).item() == 0
    for value, y in ((0.0, 1), (1.0, 0)):
        loss = supervised.binary_cross_entropy_of_probabilities(torch.tensor([[value]]), torch.tensor([y]))
        assert loss.item() == pytest.approx(least)


@pytest.mark.parametrize(("num_samples", "num_classes"), SIZES)
def test_hinge_sums_over_the_classes_that_come_within_1_of_the_right_one(num_samples, num_classes):
    outputs, y = randn(num_samples, num_classes), labels(num_samples, num_classes)

    def formula(a: Tensor) -> Tensor:
        margins = [
            torch.relu(1 - a[i, y[i]] + a[i, k]) for i in range(num_samples) for k in range(num_classes) if k != y[i]
        ]
        return sum(margins) / (num_classes * num_samples)

    assert_same(outputs, lambda a: supervised.hinge(a, y), formula, lambda a: F.multi_margin_loss(a, y))


@pytest.mark.parametrize(("num_samples", "num_labels"), [(1, 1), (7, 1), (16, 4)])
def test_hinge_of_yes_and_no_is_max_0_1_minus_t_a(num_samples, num_labels):
    outputs, y = randn(num_samples, num_labels), labels(num_samples * num_labels, 2).reshape(num_samples, num_labels)
    targets = y[:, 0] if num_labels == 1 else y.double()

    def formula(a: Tensor) -> Tensor:
        cells = [torch.relu(1 - (2 * t - 1) * x) for x, t in zip(a.flatten(), y.flatten(), strict=True)]
        return sum(cells) / len(cells)

    assert_same(outputs, lambda a: supervised.hinge(a, targets), formula)


@pytest.mark.parametrize("num_classes", [1, 3])
def test_class_weights_of_hinge_weight_the_mean_over_samples(num_classes):
    outputs, y = randn(9, num_classes), labels(9, max(2, num_classes))
    weights = torch.arange(1, 4).double()[: max(2, num_classes)]

    def formula(a: Tensor) -> Tensor:
        each = [supervised.hinge(a[i : i + 1], y[i : i + 1]) for i in range(9)]
        return sum(weights[k] * value for k, value in zip(y, each, strict=True)) / weights[y].sum()

    assert_same(outputs, lambda a: supervised.hinge(a, y, class_weights=weights), formula)


def test_hinge_has_no_gradient_for_what_is_right_by_more_than_1():
    outputs = torch.tensor([[2.0, 0.5, -1.0]], requires_grad=True)
    supervised.hinge(outputs, torch.tensor([0])).backward()
    assert torch.equal(outputs.grad, torch.zeros(1, 3))


@pytest.mark.parametrize("name", ["mean_squared_error", "mean_absolute_error", "huber"])
@pytest.mark.parametrize("num_classes", [1, 2, 5])
def test_errors_take_class_indices_as_one_hot_vectors(name, num_classes):
    outputs, y = randn(6, num_classes), labels(6, max(2, num_classes))
    wanted = y[:, None].double() if num_classes == 1 else F.one_hot(y, num_classes).double()
    loss = supervised.LOSSES[name].function
    torch_name = {"mean_squared_error": "mse_loss", "mean_absolute_error": "l1_loss", "huber": "huber_loss"}[name]
    assert_same(outputs, lambda a: loss(a, y), lambda a: getattr(F, torch_name)(a, wanted))


def test_rows_of_a_softmax_sum_to_1_and_two_classes_are_a_sigmoid():
    logits = randn(50, 10)
    torch.testing.assert_close(logits.softmax(1).sum(1), torch.ones(50).double())
    two = randn(50, 2)
    torch.testing.assert_close(two.softmax(1)[:, 1], (two[:, 1] - two[:, 0]).sigmoid())
    y = labels(50, 2)
    assert_same(
        two,
        lambda a: supervised.cross_entropy_of_probabilities(a.softmax(1), y),
        lambda a: supervised.binary_cross_entropy_of_probabilities((a[:, 1:] - a[:, :1]).sigmoid(), y),
        lambda a: supervised.binary_cross_entropy(a[:, 1:] - a[:, :1], y),
    )


def test_a_softmax_before_a_loss_of_logits_is_another_loss():
    """Why it is refused: a perfect answer still costs 0.31, where chance costs 0.69."""
    p = torch.tensor([[1.0, 0.0]])
    assert supervised.cross_entropy(p, torch.tensor([0])).item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert supervised.cross_entropy_of_probabilities(p, torch.tensor([0])).item() == 0


def test_every_loss_says_what_it_takes():
    for loss in supervised.LOSSES.values():
        assert loss.takes in ("logits", "probabilities", "margins", "values")
        assert loss.kinds
        assert set(loss.options) == set(inspect.signature(loss.function).parameters) - {
            "outputs", "logits", "probabilities", "targets"
        }  # fmt: skip


def test_binary_cross_entropy_is_finite_where_the_sigmoid_is_0_or_1():
    logits = torch.tensor([[1000.0], [-1000.0]])
    assert supervised.binary_cross_entropy(logits, torch.tensor([0, 1])).item() == 1000
    assert supervised.binary_cross_entropy(logits, torch.tensor([1, 0])).item() == 0


@pytest.mark.parametrize(("num_samples", "num_classes"), [(1, 3), (8, 10)])
@pytest.mark.parametrize("one_hot", [False, True])
def test_half_squared_error_compares_with_one_hot_vectors(num_samples, num_classes, one_hot):
    outputs, y = randn(num_samples, num_classes), labels(num_samples, num_classes)
    wanted = F.one_hot(y, num_classes).double()
    cells = [(i, k) for i in range(num_samples) for k in range(num_classes)]
    assert_same(
        outputs,
        lambda a: supervised.half_squared_error(a, wanted if one_hot else y),
        lambda a: sum(0.5 * (a[c] - wanted[c]) ** 2 for c in cells) / num_samples,
        lambda a: 0.5 * num_classes * F.mse_loss(a, wanted),
    )


@pytest.mark.parametrize("num_samples", [1, 5])
def test_half_squared_error_of_one_output_takes_0_and_1_as_they_are(num_samples):
    outputs, y = randn(num_samples, 1), labels(num_samples, 2)
    expected = sum(0.5 * (a - t) ** 2 for a, t in zip(outputs[:, 0], y, strict=True)) / num_samples
    torch.testing.assert_close(supervised.half_squared_error(outputs, y), expected)


def test_the_gradient_of_half_squared_error_is_the_difference():
    outputs, y = randn(1, 4).requires_grad_(), torch.tensor([2])
    supervised.half_squared_error(outputs, y).backward()
    assert torch.equal(outputs.grad, (outputs - F.one_hot(y, 4)).detach())


@pytest.mark.parametrize("shape", [(1, 1), (7, 1), (5, 3)])
def test_squared_and_absolute_error_are_means_over_samples_and_columns(shape):
    outputs, y = randn(*shape), randn(*shape, seed=1)
    cells = [(i, k) for i in range(shape[0]) for k in range(shape[1])]
    assert_same(
        outputs,
        lambda a: supervised.mean_squared_error(a, y),
        lambda a: sum((a[c] - y[c]) ** 2 for c in cells) / len(cells),
        lambda a: F.mse_loss(a, y),
    )
    assert_same(
        outputs,
        lambda a: supervised.mean_absolute_error(a, y),
        lambda a: sum((a[c] - y[c]).abs() for c in cells) / len(cells),
        lambda a: F.l1_loss(a, y),
    )


@pytest.mark.parametrize("delta", [0.5, 1.0, 3.0])
def test_huber_is_squared_within_delta_and_linear_beyond(delta):
    outputs, y = randn(40, 2), randn(40, 2, seed=1)

    def formula(a: Tensor) -> Tensor:
        error = (a - y).abs()
        return torch.where(error <= delta, 0.5 * error**2, delta * (error - 0.5 * delta)).mean()

    assert 0 < ((outputs - y).abs() <= delta).sum() < 80
    assert_same(
        outputs,
        lambda a: supervised.huber(a, y, delta=delta),
        formula,
        lambda a: F.huber_loss(a, y, delta=delta),
    )


WEIGHED = [name for name, loss in supervised.LOSSES.items() if "class_weights" in loss.options]


def weighed(name, kind):
    """Outputs of 8 samples, targets and weights of classes for a loss and a kind of answer."""
    draw = torch.Generator().manual_seed(0)
    outputs = torch.rand(8, 1 if kind == "binary" else 3, generator=draw)
    if kind == "multiclass":
        return outputs.softmax(1), torch.randint(3, (8,), generator=draw), torch.tensor([0.01, 0.02, 0.5])
    shape = (8,) if kind == "binary" else (8, 3)
    return outputs, torch.randint(2, shape, generator=draw), torch.tensor([0.01, 0.5])


CASES = [(name, kind) for name in WEIGHED for kind in supervised.LOSSES[name].kinds]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_parts_of_a_batch_weigh_what_their_targets_weigh(name, kind):
    """So the loss of a batch is that of its shares on several processes, or of several batches before an update."""
    outputs, targets, weights = weighed(name, kind)
    compare = supervised.LOSSES[name].function
    amounts, losses = [], []
    for part in (slice(3), slice(3, 8)):
        amounts.append(supervised.weight_of(targets[part], weights, yes_or_no=kind != "multiclass").item())
        losses.append(compare(outputs[part], targets[part], class_weights=weights).item())
    together = sum(a * b for a, b in zip(amounts, losses, strict=True)) / sum(amounts)
    assert together == pytest.approx(compare(outputs, targets, class_weights=weights).item(), rel=1e-5)
    if kind == "multiclass" and name != "hinge":
        onehot = torch.nn.functional.one_hot(targets, 3).float()
        assert supervised.weight_of(onehot, weights).item() == pytest.approx(sum(amounts))


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_batch_that_weighs_nothing_has_no_loss(name, kind):
    outputs, targets, weights = weighed(name, kind)
    outputs, weights = outputs.requires_grad_(), torch.where(torch.arange(len(weights)) == 0, 0.0, weights)
    loss = supervised.LOSSES[name].function(outputs, torch.zeros_like(targets), class_weights=weights)
    loss.backward()
    assert loss.item() == 0
    assert outputs.grad.eq(0).all()
