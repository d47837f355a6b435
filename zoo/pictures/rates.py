"""What TensorBoard draws as precision against recall: counts, not a picture."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


class PrecisionRecall(NamedTuple):
    """Of each class against all others, how it would go if it were said from a probability on.

    counts: (T, K, 2, 2), for T thresholds from 0 to 1 evenly: true class by row, said class by column.
    names: of the K classes.
    """

    counts: Tensor
    names: Sequence[str]

    def of_class(self, k: int) -> dict[str, Tensor]:
        """What `SummaryWriter.add_pr_curve_raw` takes, (T,) each. Where nothing is said precision is 0."""
        (tn, fp), (fn, tp) = self.counts[:, k].movedim(0, 2).double()
        return {
            "true_positive_counts": tp,
            "false_positive_counts": fp,
            "true_negative_counts": tn,
            "false_negative_counts": fn,
            "precision": tp / (tp + fp).clamp(min=1),
            "recall": tp / (tp + fn).clamp(min=1),
        }
