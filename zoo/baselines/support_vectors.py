"""A support vector machine of scikit-learn beside the network: what a Gaussian kernel makes of the same inputs.

Cortes and Vapnik, "Support-Vector Networks", 1995. It compares a sample with those at the border between two classes,
and needs no features but a distance. Its cost grows with more than the square of the samples, so it is fitted to 5,000
of them at most.
"""

from typing import Any

import numpy as np

from zoo.baselines.simple import arrays


def support_vectors(train: Any, test: Any, kind: str, *, most: int = 5_000) -> dict[str, float]:
    """baseline/support_vector_machine_accuracy of classes; nothing of quantities.

    Args:
        train, test: parts of a data module.
        kind: "multiclass", "binary", "multilabel" (the share of the labels that is right) or "regression".
        most: training samples that are used; of more, so many are drawn.
    """
    if kind == "regression":
        return {}
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    x, y = arrays(train)
    if len(x) > most:
        chosen = np.random.default_rng(0).choice(len(x), most, replace=False)
        x, y = x[chosen], y[chosen]
    machine = make_pipeline(StandardScaler(), OneVsRestClassifier(SVC()) if kind == "multilabel" else SVC())
    x_test, y_test = arrays(test)
    return {"baseline/support_vector_machine_accuracy": float((machine.fit(x, y).predict(x_test) == y_test).mean())}
