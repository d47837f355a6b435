"""Numbers that torchmetrics does not have: simple methods on the same samples, what a shift changes, texts compared."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


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


class ShiftEffect(NamedTuple):
    """What a shift of the images does to a function of them.

    change: mean |f(shifted) - f(x)| over mean |f(x)|, 0 for a function that does not see the shift at all.
    unchanged: share of the images whose largest output is the same one as before, 1 for such a function.
    """

    change: float
    unchanged: float


@torch.no_grad()
def translation_invariance(function: Callable[[Tensor], Tensor], images: Tensor, *, shift: int = 1) -> ShiftEffect:
    """How far a function of images is from being the same after a shift, as a mean over the four directions.

    Args:
        function: (B, C, H, W) -> (B, ...), a network in evaluation mode or the first layers of one.
        images: (B, C, H, W); those pixels that come in repeat the image's edge.
        shift: by how many pixels.
    """
    height, width = images.shape[2:]
    padded = F.pad(images, (shift,) * 4, mode="replicate")  # (B, C, H + 2 shift, W + 2 shift)
    before = function(images).flatten(1)  # (B, D)
    changes, same = [], []
    for top, left in ((0, shift), (2 * shift, shift), (shift, 0), (shift, 2 * shift)):
        after = function(padded[:, :, top : top + height, left : left + width]).flatten(1)  # (B, D)
        changes.append((after - before).norm(dim=1).mean())
        same.append((after.argmax(1) == before.argmax(1)).float().mean())
    change = torch.stack(changes).mean() / before.norm(dim=1).mean()
    return ShiftEffect(float(change), float(torch.stack(same).mean()))


class TextScore(NamedTuple):
    """How alike the texts of a system and the references are.

    score: from 0 to 100.
    signature: sacrebleu's own line on how it was computed; scores with the same one can be compared.
    """

    score: float
    signature: str


def check_texts(texts: Sequence[str], references: Sequence[str]) -> None:
    if len(texts) != len(references) or not texts:
        raise ValueError(f"{len(texts)} texts cannot be compared with {len(references)} references")


def bleu(
    texts: Sequence[str], references: Sequence[str], *, lowercase: bool = False, tokenize: str = "13a"
) -> TextScore:
    """BLEU of a whole set: n-grams of one to four words that are in the reference, and a penalty for shortness.

    Papineni, Roukos, Ward, Zhu, "BLEU: a method for automatic evaluation of machine translation", 2002, as sacrebleu
    has it (Post, "A call for clarity in reporting BLEU scores", 2018, arXiv 1804.08771).

    Args:
        texts, references: N each, at least one, as people write them: sacrebleu cuts them into words itself.
        lowercase: case does not count.
        tokenize: sacrebleu's name of how words are cut; "none" for texts that are cut already.
    """
    from sacrebleu.metrics import BLEU

    check_texts(texts, references)
    metric = BLEU(
        lowercase=lowercase, tokenize=tokenize, force=True
    )  # without a warning of texts that look cut already
    score = metric.corpus_score(list(texts), [list(references)]).score
    return TextScore(score, str(metric.get_signature()))


def chrf(texts: Sequence[str], references: Sequence[str], *, lowercase: bool = False) -> TextScore:
    """chrF2 of a whole set: n-grams of one to six characters found in the reference, and of the reference found.

    Popović, "chrF: character n-gram F-score for automatic MT evaluation", 2015, as sacrebleu has it. Arguments as in
    `bleu`.
    """
    from sacrebleu.metrics import CHRF

    check_texts(texts, references)
    metric = CHRF(lowercase=lowercase)
    score = metric.corpus_score(list(texts), [list(references)]).score
    return TextScore(score, str(metric.get_signature()))


def exact_match(texts: Sequence[str], references: Sequence[str], *, lowercase: bool = False) -> float:
    """Share of texts that are equal to their references, from 0 to 1, whatever white space stands between words."""
    check_texts(texts, references)

    def plain(text: str) -> str:
        return " ".join((text.lower() if lowercase else text).split())

    return sum(plain(text) == plain(reference) for text, reference in zip(texts, references, strict=True)) / len(texts)
