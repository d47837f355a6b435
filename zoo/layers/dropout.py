"""Classic dropout: units are dropped in training, and scaled down when the network is used.

Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov, "Dropout: A Simple Way to Prevent Neural Networks from
Overfitting", 2014, section 4:

    training     y = r * x,     r ~ Bernoulli(1 - p)
    use          y = (1 - p) x

torch.nn.Dropout is the inverted form: it divides by 1 - p in training and changes nothing in use. Both pass on in use
what they pass on in training on average; the classic one passes on less by the factor 1 - p, in training too, so a
network is trained and used with the same one of the two. The paper scales the weights that follow; to scale the units
before them is the same.
"""

import torch
from torch import Tensor, nn

from zoo.errors import UserError, suggest

KINDS = ("inverted", "classic")


class ClassicDropout(nn.Dropout):
    """Each value is 0 with probability p in training, and is multiplied by 1 - p in use; any shape."""

    def forward(self, x: Tensor) -> Tensor:
        keep = 1 - self.p
        return x * torch.empty_like(x).bernoulli_(keep) if self.training else x * keep


def use_dropout(model: nn.Module, kind: str) -> list[str]:
    """Turns the dropout layers of a model into those of this kind, in place; returns the names of those that changed.

    A layer of torch that drops inside itself, such as an LSTM between its layers, keeps the inverted form.

    Raises:
        UserError: there is no such kind, or nothing to turn.
    """
    if kind not in KINDS:
        raise UserError(f"There is no regularizer.dropout={kind}{suggest(kind, KINDS)}")
    if kind == "inverted":
        return []
    found = {name: module for name, module in model.named_modules() if isinstance(module, nn.Dropout) and module.p > 0}
    if not found:
        raise UserError(
            "regularizer.dropout=classic says how a model drops units, and this model drops none; say how many, for "
            "instance with model.dropout=0.25."
        )
    for module in found.values():
        module.__class__ = ClassicDropout
    return list(found)
