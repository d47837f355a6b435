"""Low-rank adaptation (Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2022, section 4.1).

A pretrained weight stays as it is, and a product of two thin matrices is learned beside it:

    W' = W + alpha / r  B A        W (O, I), B (O, r), A (r, I)

B begins at 0, so that nothing changes before the first step. The sum is an ordinary weight again: `merged` makes it, so
a checkpoint gives the plain network whether or not it was adapted.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from zoo.errors import UserError
from zoo.layers.depth import head

ORIGINAL, DOWN, UP = (f".parametrizations.weight.{name}" for name in ("original", "0.down", "0.up"))
SCALE = ".parametrizations.weight.0.scale"


class LowRank(nn.Module):
    """Adds alpha / r B A to a weight.

    Args:
        weight: (O, I), that it is for: its size, type and device.
        rank: r. alpha: by which the product is scaled, over r.
    """

    scale: Tensor

    def __init__(self, weight: Tensor, *, rank: int, alpha: float) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, weight.shape[1], dtype=weight.dtype, device=weight.device))  # A
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank, dtype=weight.dtype, device=weight.device))  # B
        self.register_buffer("scale", torch.tensor(alpha / rank, dtype=weight.dtype, device=weight.device))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))  # as torch begins a linear layer

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.up @ self.down)  # (O, I)


def add_lora(model: nn.Module, *, rank: int, alpha: float) -> list[str]:
    """Puts an adapter beside the weight of each linear layer but the output layer; returns the names of the layers.

    Args:
        rank: r, from 1 on. alpha: the scale of what is learned, over r.

    Raises:
        UserError: the model has no linear layer besides its output layer.
    """
    last = head(model)
    shared = {id(p) for p in last.parameters()}
    layers = {
        name: module
        for name, module in model.named_modules()
        if type(module) is nn.Linear and module is not last and id(module.weight) not in shared
    }
    if not layers:
        raise UserError(
            "finetune=lora is for linear layers, and this model has none but its output layer; use finetune=last_n."
        )
    for module in layers.values():
        parametrize.register_parametrization(
            module, "weight", LowRank(module.weight, rank=rank, alpha=alpha), unsafe=True
        )
    return list(layers)


def adapters(model: nn.Module) -> Iterator[nn.Parameter]:
    """What is learned in place of the weights that have an adapter."""
    for module in model.modules():
        if isinstance(module, LowRank):
            yield from module.parameters()


def merged(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the plain network: each adapter added to its weight; other parametrizations stay as they are."""
    plain = {}
    for name, value in weights.items():
        layer, _, rest = name.partition(".parametrizations.weight.")
        if layer + DOWN not in weights:
            plain[name] = value
        elif rest == "original":
            down, up, scale = (weights[layer + part] for part in (DOWN, UP, SCALE))
            plain[f"{layer}.weight"] = value + scale * (up @ down)
    return plain
