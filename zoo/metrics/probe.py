"""A linear probe: how well features tell the classes apart by themselves, judged by a logistic regression on top.

Alain and Bengio, "Understanding intermediate layers using linear classifier probes", 2016 (arXiv 1610.01644).

Axes: N samples, F features
"""

from torch import Tensor

STRENGTH = 1000.0  # scikit-learn's C: hardly any penalty, as in its example with features of a Boltzmann machine
MOST_ITERATIONS = 1000
# Newton's method: L-BFGS stops at its usual tolerance well before the optimum, somewhere else on each processor.
SOLVER = {"solver": "newton-cholesky", "tol": 1e-6}


def linear_probe(features: Tensor, labels: Tensor, test_features: Tensor, test_labels: Tensor) -> float:
    """Accuracy on the test samples of a logistic regression that learned from the others.

    Args:
        features: (N, ...), flattened.
        labels: (N,) int64 class index.
    """
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=STRENGTH, max_iter=MOST_ITERATIONS, **SOLVER)
    model.fit(features.flatten(1).double().cpu().numpy(), labels.cpu().numpy())
    return float(model.score(test_features.flatten(1).double().cpu().numpy(), test_labels.cpu().numpy()))
