"""MNIST-1D: 4,000 + 1,000 series of 40 values, 10 classes that are shaped like the digits.

Greydanus and Kobak, "Scaling down deep learning", 2020 (arXiv 2011.14439). Each series is one of ten patterns of 12
values, padded, stretched, scaled, moved, sheared and made noisy. The authors' package makes them from the seed 42, the
published file to the last bit of float32, so nothing is downloaded.

The values are taken as they are: the authors have brought all 5,000 series to mean 0 and deviation 1 together, and the
published accuracies are those of nets that saw them so.

Axes: N series, L = 40 places
"""

import random
from functools import cache

import numpy as np
import torch
from torch import Tensor

from zoo.batches import TableBatch
from zoo.data.base import DataModule, InMemory, Loaded
from zoo.data.images import check_size, fingerprint, set_aside
from zoo.data.table import label_counts
from zoo.data.table_preprocessing import NumberColumn, TablePreprocessing

LENGTH, NUM_CLASSES = 40, 10


@cache
def published() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training series (N, L) float32 and labels (N,) int64, then those of the test part, in their published order."""
    from mnist1d.data import get_dataset_args, make_dataset

    states = random.getstate(), np.random.get_state()
    try:
        made = make_dataset(get_dataset_args())  # seeds the global generators
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
    series, labels, test_series, test_labels = (torch.from_numpy(made[key]) for key in ("x", "y", "x_test", "y_test"))
    return series.float(), labels.long(), test_series.float(), test_labels.long()


class Mnist1d(DataModule):
    """Series (L,) as rows of a table, so that dense nets take them, too.

    Args:
        shuffled: permute the places of every series in the way of the authors' ablation: neighbours are none any more,
            which a dense net does not notice and a convolution does.
        val_size: training series set aside for validation, chosen by the seed; 0 for none.
        batch_size, eval_batch_size, seed, fraction, overfit: see `DataModule`. The series do not depend on the seed.
    """

    imports = ("mnist1d.data",)

    def __init__(
        self,
        *,
        shuffled: bool = False,
        val_size: int = 400,
        batch_size: int | str = 100,
        eval_batch_size: int = 512,
        seed: int = 0,
        fraction: float = 1.0,
        overfit: bool = False,
    ) -> None:
        super().__init__(
            batch_size=batch_size, eval_batch_size=eval_batch_size, seed=seed, fraction=fraction, overfit=overfit
        )
        check_size("val_size", val_size, 0)
        self.shuffled, self.val_size = shuffled, val_size

    def load(self) -> Loaded:
        series, labels, test_series, test_labels = published()
        places = np.random.RandomState(42).permutation(LENGTH) if self.shuffled else np.arange(LENGTH)
        series, test_series = series[:, places], test_series[:, places]
        train, val = set_aside(len(series), self.val_size, seed=self.seed)
        parts = {"train": InMemory(TableBatch, series[train], labels[train])}
        if len(val):
            parts["val"] = InMemory(TableBatch, series[val], labels[val])
        parts["test"] = InMemory(TableBatch, test_series, test_labels)
        names = [str(k) for k in range(NUM_CLASSES)]
        # A file with the columns t0 to t39 can be predicted; each is found by its name and left as it is.
        columns: list = [NumberColumn(f"t{place}", mean=0.0, std=1.0, fill=None) for place in places]
        return Loaded(
            parts=dict(parts),
            facts={
                "kind": "multiclass",
                "num_features": LENGTH,
                "num_classes": NUM_CLASSES,
                "label_counts": label_counts(labels[train], NUM_CLASSES),
            },
            preprocessing=TablePreprocessing(columns, "digit", "multiclass", names).to_dict(),
            class_names=names,
            train_labels=labels[train],
            fingerprint=fingerprint([series, labels, test_series, test_labels]),
        )
