"""zoo.metrics.probe: the logistic regression on top of features has come to its end, wherever it is computed."""

import pytest
import torch
from sklearn.datasets import load_digits

from zoo.metrics import probe
from zoo.metrics.probe import linear_probe


def halves():
    pixels, labels = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
    features = torch.sigmoid(pixels.float() @ torch.randn(64, 40, generator=torch.Generator().manual_seed(0)) / 20)
    return features[::2], labels[::2], features[1::2], labels[1::2]


def test_features_that_hold_the_class_tell_it_and_others_do_not():
    labels = torch.arange(60) % 3
    noise = torch.rand(60, 3, generator=torch.Generator().manual_seed(0))
    assert linear_probe(torch.eye(3)[labels], labels, torch.eye(3)[labels], labels) == 1
    assert linear_probe(noise[:30], labels[:30], noise[30:], labels[30:]) < 0.7


@pytest.mark.parametrize("strength", [1.0, 1000.0])
def test_its_weights_are_where_the_loss_has_no_slope(monkeypatch, strength):
    """So a processor that rounds otherwise finds the same answers: L-BFGS at its usual tolerance stops far before."""
    from sklearn.linear_model import LogisticRegression

    fitted = []

    class Kept(LogisticRegression):
        def fit(self, x, y):
            fitted.append(self)
            return super().fit(x, y)

    monkeypatch.setattr("sklearn.linear_model.LogisticRegression", Kept)
    monkeypatch.setattr(probe, "STRENGTH", strength)
    features, labels, test_features, test_labels = halves()
    accuracy = linear_probe(features, labels, test_features, test_labels)
    assert 0.85 < accuracy < 1
    weight = torch.from_numpy(fitted[0].coef_).requires_grad_()
    bias = torch.from_numpy(fitted[0].intercept_).requires_grad_()
    logits = features.double() @ weight.T + bias
    loss = torch.nn.functional.cross_entropy(logits, labels) + weight.square().sum() / (2 * strength * len(labels))
    slopes = torch.autograd.grad(loss, (weight, bias))
    assert max(float(slope.abs().max()) for slope in slopes) < 2e-6
