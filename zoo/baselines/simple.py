"""What simple methods of scikit-learn reach on the same samples: every network is shown beside them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch


def arrays(part: Any) -> tuple[np.ndarray, np.ndarray]:
    """All samples of a part as (N, F) inputs and their targets, (N,) or (N, K)."""
    batch = part[torch.arange(len(part))]
    targets = batch.targets.numpy()
    return batch.inputs[0].flatten(1).numpy(), targets[:, 0] if targets.ndim == 2 and targets.shape[1] == 1 else targets


def baselines(
    train: Any, test: Any, kind: str, *, most: int = 20_000, spread: Sequence[float] = (1.0,)
) -> dict[str, float]:
    """A linear model and nearest neighbours of scikit-learn, fitted to the same inputs as the network.

    Args:
        train, test: parts of a data module.
        kind: "multiclass", "binary", "multilabel" or "regression".
        most: training samples that are used; more are drawn from, since neighbours are slow.
        spread: units of each target of a regression, by which the batches were divided.

    Returns:
        baseline/<method>_accuracy (several labels: the share of them that is right), or baseline/<method>_r2 and _mse
        (in the targets' own units), each a mean over the targets.
    """
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.metrics import mean_squared_error, r2_score
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = arrays(train)
    if len(x) > most:
        chosen = np.random.default_rng(0).choice(len(x), most, replace=False)
        x, y = x[chosen], y[chosen]
    x_test, y_test = arrays(test)
    neighbours = min(5, len(x))
    if kind == "regression":
        models = {"linear_regression": LinearRegression(), "nearest_neighbours": KNeighborsRegressor(neighbours)}
        found = {}
        for name, model in models.items():
            predicted = model.fit(x, y).predict(x_test)
            found[f"baseline/{name}_r2"] = float(r2_score(y_test, predicted))
            errors = mean_squared_error(y_test, predicted, multioutput="raw_values")  # (K,)
            found[f"baseline/{name}_mse"] = float((errors * np.square(spread)).mean())
        return found
    linear = LogisticRegression(max_iter=300)
    classifiers = {
        "logistic_regression": make_pipeline(
            StandardScaler(), OneVsRestClassifier(linear) if kind == "multilabel" else linear
        ),
        "nearest_neighbours": KNeighborsClassifier(neighbours),
    }
    return {
        f"baseline/{name}_accuracy": float((model.fit(x, y).predict(x_test) == y_test).mean())
        for name, model in classifiers.items()
    }
