"""How sure an answer is: dropout stays on in use, and what several draws of it say is compared.

Gal, Ghahramani, "Dropout as a Bayesian approximation: representing model uncertainty in deep learning", 2016
(arXiv 1506.02142): the answer is the mean over draws, and their standard deviation is a measure of doubt. It is doubt
of this network about its weights; where training data and question have little in common, it may be sure and wrong.

    predictor = load("outputs/.../")
    for answer in predictor.answers("photos/", Doubt(predictor, draws=20)):
        print(answer.ranked[0], answer.because)

Axes: T draws, B inputs in a chunk, K classes, labels or target columns
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from zoo.errors import UserError
from zoo.trained.predict import Answer, Predictor


def dropouts(model: nn.Module) -> list[_DropoutNd]:
    """The layers that drop. What drops inside itself, such as an LSTM between its layers, is left out."""
    return [module for module in model.modules() if isinstance(module, _DropoutNd) and module.p > 0]


@dataclass
class Doubt:
    """Answers a chunk again, so many times, with dropout on; to be handed to `Predictor.answers`.

    Args:
        predictor: what gives the answers.
        draws: T.
        seed: of what is dropped; the random numbers of everything else stay as they are.

    Raises:
        UserError: the network has no dropout.
    """

    predictor: Predictor
    draws: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if not dropouts(self.predictor.model):
            raise UserError(
                "draws= leaves dropout on, and this network has none; train it with model.dropout=0.2, or leave it out."
            )

    def __call__(self, answers: list[Answer], inputs: Any) -> list[Answer]:
        """The same answers with means over the draws in place of numbers, and what they differ by."""
        layers = dropouts(self.predictor.model)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            try:
                for layer in layers:
                    layer.train()
                drawn = torch.stack([self.predictor.measures(inputs) for _ in range(self.draws)])  # (T, B, K)
            finally:
                for layer in layers:
                    layer.eval()
        return [self.told(*one) for one in zip(answers, drawn.mean(0), drawn.std(0), strict=True)]

    def told(self, answer: Answer, mean: torch.Tensor, spread: torch.Tensor) -> Answer:
        ranked = self.predictor.rank(mean)
        spreads = dict(zip(self.predictor.names, spread.tolist(), strict=True))
        form = "{:.1%}" if self.predictor.measure == "probability" else "{:.3g}"
        shown = list(spreads) if self.predictor.kind in ("regression", "multilabel") else [ranked[0][0]]
        because = f"± {', '.join(form.format(spreads[name]) for name in shown)} over {self.draws} draws of dropout"
        return replace(answer, ranked=ranked, because=because, explanation={"draws": self.draws, "spread": spreads})
