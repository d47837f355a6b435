"""Each loss written out is equal to torch's and to the zoo's of the same name, forward and backward, in float64."""

import inspect

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.losses.supervised import LOSSES
from zoo.scratch import losses

B, K = 9, 4
LABELS = torch.randint(K, (B,), generator=torch.Generator().manual_seed(1))
YES = torch.randint(2, (B, 1), generator=torch.Generator().manual_seed(2)).double()
MANY = torch.randint(2, (B, K), generator=torch.Generator().manual_seed(3)).double()
ONE_HOT = F.one_hot(LABELS, K).double()
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
# Written out: they call none of torch's losses, so they have no twin.
WITHOUT_TWIN = {"half_squared_error", "cross_entropy_of_probabilities", "binary_cross_entropy_of_probabilities"}


def randn(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


SOFT = randn(B, K, seed=4).softmax(1)
VALUES = randn(B, K, seed=5)


def assert_same(own, theirs, outputs: Tensor, targets: Tensor, rtol: float = 1e-12, **options) -> None:
    found = []
    for function in (own, theirs):
        leaf = outputs.clone().requires_grad_()
        value = function(leaf, targets, **options) if function is own else function(leaf, targets)
        found.append((value.detach(), *torch.autograd.grad(value, leaf)))
    for a, b in zip(*found, strict=True):
        assert a.isfinite().all()
        torch.testing.assert_close(a, b, rtol=rtol, atol=1e-13)


CASES = {
    "sparse": (losses.sparse_cross_entropy, F.cross_entropy, LABELS, {}),
    "sparse, smoothed": (
        losses.sparse_cross_entropy,
        lambda a, y: F.cross_entropy(a, y, label_smoothing=0.3),
        LABELS,
        {"label_smoothing": 0.3},
    ),
    "sparse, smoothed and weighted": (
        losses.sparse_cross_entropy,
        lambda a, y: F.cross_entropy(a, y, label_smoothing=0.3, weight=WEIGHTS),
        LABELS,
        {"label_smoothing": 0.3, "class_weights": WEIGHTS},
    ),
    "one-hot": (losses.categorical_cross_entropy, F.cross_entropy, ONE_HOT, {}),
    "soft": (losses.categorical_cross_entropy, F.cross_entropy, SOFT, {}),
    "soft, smoothed": (
        losses.categorical_cross_entropy,
        lambda a, y: F.cross_entropy(a, y, label_smoothing=0.3),
        SOFT,
        {"label_smoothing": 0.3},
    ),
    "kl, soft": (losses.kl_divergence, lambda a, y: F.kl_div(a.log_softmax(1), y, reduction="batchmean"), SOFT, {}),
    "kl, one-hot": (
        losses.kl_divergence, lambda a, y: F.kl_div(a.log_softmax(1), y, reduction="batchmean"), ONE_HOT, {}
    ),
    "binary": (losses.binary_cross_entropy, F.binary_cross_entropy_with_logits, MANY, {}),
    "squared": (losses.mean_squared_error, F.mse_loss, VALUES, {}),
    "absolute": (losses.mean_absolute_error, F.l1_loss, VALUES, {}),
    "huber": (losses.huber, F.huber_loss, VALUES, {}),
    "huber, narrow": (losses.huber, lambda a, y: F.huber_loss(a, y, delta=0.3), VALUES, {"delta": 0.3}),
    "hinge": (losses.hinge, F.multi_margin_loss, LABELS, {}),
    "hinge of labels": (
        losses.hinge, lambda a, y: F.margin_ranking_loss(a, torch.zeros_like(a), 2 * y - 1, margin=1.0), MANY, {}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_loss_is_torchs_forward_and_backward(name):
    own, theirs, targets, options = CASES[name]
    assert_same(own, theirs, randn(B, K), targets, **options)


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("squared",)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_loss_of_extreme_outputs_is_finite_and_torchs(name, dtype):
    own, theirs, targets, options = CASES[name]
    order = torch.randperm(B * K, generator=torch.Generator().manual_seed(0))
    outputs = torch.linspace(-1e4, 1e4, B * K, dtype=dtype)[order].view(B, K)
    outputs[0] = torch.tensor([700.0, -700.0, 0.0, 700.0])
    targets = targets.to(dtype) if targets.is_floating_point() else targets
    options = {key: value.to(dtype) if isinstance(value, Tensor) else value for key, value in options.items()}
    if dtype == torch.float32 and "weighted" in name:
        theirs = lambda a, y: F.cross_entropy(a, y, label_smoothing=0.3, weight=WEIGHTS.float())  # noqa: E731
    assert_same(own, theirs, outputs, targets, rtol=1e-5 if dtype == torch.float32 else 1e-12, **options)


# For each kind of task: outputs, targets as its data have them, and class weights.
TARGETS = {
    "multiclass": [(K, LABELS, WEIGHTS), (K, SOFT, WEIGHTS)],
    "binary": [(1, YES[:, 0].long(), WEIGHTS[:2])],
    "multilabel": [(K, MANY, WEIGHTS[:2])],
    "regression": [(K, VALUES, None), (1, VALUES[:, :1], None)],
}
IN_USE = [
    (name, kind, case)
    for name in sorted(set(LOSSES) - WITHOUT_TWIN)
    for kind in LOSSES[name].kinds
    for case in range(len(TARGETS[kind]))
    if name != "hinge" or TARGETS[kind][case][1] is not SOFT
]


@pytest.mark.parametrize(("name", "kind", "case"), IN_USE)
def test_a_twin_is_the_zoos_loss_with_each_of_its_options(name, kind, case):
    loss, (num_outputs, targets, class_weights) = LOSSES[name], TARGETS[kind][case]
    options = {"class_weights": class_weights, "label_smoothing": 0.2, "delta": 0.4}
    for wanted in [(), loss.options, *((option,) for option in loss.options)]:
        chosen = {key: options[key] for key in wanted}

        def theirs(outputs, targets, chosen=chosen):
            return loss.function(outputs, targets, **chosen)

        assert_same(getattr(losses, name), theirs, randn(B, num_outputs), targets, **chosen)


def test_every_loss_of_the_zoo_that_calls_torchs_has_a_twin_of_its_name_and_options():
    for name in set(LOSSES) - WITHOUT_TWIN:
        assert inspect.signature(getattr(losses, name)) == inspect.signature(LOSSES[name].function), name
    for name in WITHOUT_TWIN:
        assert not hasattr(losses, name)
        assert "F." not in inspect.getsource(LOSSES[name].function)


def test_absolute_error_has_no_slope_where_output_and_target_are_equal():
    outputs = torch.tensor([[1.0, 2.0]], requires_grad=True)
    losses.mean_absolute_error(outputs, torch.tensor([[1.0, 0.0]])).backward()
    assert outputs.grad.tolist() == [[0.0, 0.5]]


def test_hinge_has_no_slope_where_the_margin_is_just_kept():
    outputs = torch.tensor([[2.0, 1.0]], requires_grad=True)
    losses.hinge(outputs, torch.tensor([0])).backward()
    assert outputs.grad.tolist() == [[0.0, 0.0]]


def test_crammer_and_singer_count_the_nearest_class_alone():
    scores, labels = randn(B, K), LABELS
    expected = [
        max(0.0, *(1 - row[y] + row[k] for k in range(K) if k != y)) for row, y in zip(scores, labels, strict=True)
    ]
    assert losses.crammer_singer(scores, labels).item() == pytest.approx(float(sum(expected)) / B)
    two = randn(B, 2)
    torch.testing.assert_close(losses.crammer_singer(two, labels % 2), 2 * losses.hinge(two, labels % 2))


def test_kl_divergence_is_0_at_the_targets_own_distribution_and_above_it_elsewhere():
    assert losses.kl_divergence(SOFT.log(), SOFT).item() == pytest.approx(0, abs=1e-15)
    assert losses.kl_divergence(randn(B, K), SOFT).item() > 0.1
