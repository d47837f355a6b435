"""Initializations: where the weights of any model start. Each function fills a model in place.

    zero                   W = 0
    normal, uniform        W ~ N(0, std^2), W ~ U(-bound, bound)
    Xavier (1)             Var W = gain^2 * 2 / (fan_in + fan_out) = gain^2 / fan_avg
    He (2)                 Var W = 2 / ((1 + slope^2) fan), where fan is fan_in, fan_out or fan_avg
    orthogonal (3)         W W^T = gain^2 I where units are not more than inputs, else W^T W = gain^2 I

fan_in is the number of products that a unit adds up, fan_out the number that an input goes into, fan_avg the mean of
both. A uniform draw of variance v lies within +-sqrt(3 v). Torch's own default for Linear and Conv layers is none of
these: uniform with variance 1 / (3 fan_in), a sixth of He's.

What is set: the weights of linear, convolutional, transposed, recurrent and attention layers, each gate and each group
for itself, the output layer too; their biases become 0. `zero`, `normal` and `uniform` also set embeddings; the others
do not, for an embedding picks a row and adds up nothing. Norms and all other parameters stay as the model made them.

(1) Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010, equation 16.
(2) He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", 2015 (arXiv 1502.01852), equations 10, 14 and 15; with fan_avg
    it stands between the two, as in Keras' VarianceScaling.
(3) Saxe, McClelland, Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks",
    2014 (arXiv 1312.6120), section 3.

Departures from torch.nn.init, which reads the fans off the shape alone: a transposed convolution has its own fans, not
each for the other, and the fan_out of a grouped convolution counts the units of its group.

Axes: G maps side by side, U units, I inputs of a unit, k kernel (see zoo.layers.weights)
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from zoo.errors import UserError, suggest
from zoo.layers.weights import layers

Fill = Callable[[Tensor, int, int], object]  # (units (G, U, I, *k), fan_in, fan_out): writes into the first
MODES = ("fan_in", "fan_out", "fan_avg")


def set_weights(model: nn.Module, fill: Fill, *, embeddings: bool = False) -> list[str]:
    """Fills the weights of every layer and sets its biases to 0; returns the names of what was set."""
    done: dict[str, Tensor] = {}
    with torch.no_grad():
        for path, module, maps in layers(model):
            for one in maps:
                fill(one.units, one.fan_in, one.fan_out)
                done[one.name] = one.parameter
            for name, parameter in module.named_parameters(path, recurse=False):
                if parameter.ndim == 1 and "bias" in name.rpartition(".")[2]:
                    done[name] = parameter.zero_()
        for path, module in model.named_modules() if embeddings else ():
            if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and all(
                module.weight is not p for p in done.values()
            ):
                fill(module.weight, 1, module.embedding_dim)
                if module.padding_idx is not None:
                    module.weight[module.padding_idx].zero_()
                done[f"{path}.weight" if path else "weight"] = module.weight
    return list(done)


def draw_normal(units: Tensor, variance: float) -> None:
    units.normal_(0, math.sqrt(variance))


def draw_uniform(units: Tensor, variance: float) -> None:
    bound = math.sqrt(3 * variance)
    units.uniform_(-bound, bound)


def zero(model: nn.Module) -> list[str]:
    """All 0: the units of a layer are alike and stay so, since all of them get the same gradient."""
    return set_weights(model, lambda units, fan_in, fan_out: units.zero_(), embeddings=True)


def normal(model: nn.Module, *, std: float = 0.01) -> list[str]:
    """Normal, of the same deviation in every layer."""
    return set_weights(model, lambda units, fan_in, fan_out: units.normal_(0, std), embeddings=True)


def uniform(model: nn.Module, *, bound: float = 0.05) -> list[str]:
    """Uniform between -bound and bound in every layer."""
    return set_weights(model, lambda units, fan_in, fan_out: units.uniform_(-bound, bound), embeddings=True)


def xavier_normal(model: nn.Module, *, gain: float = 1.0) -> list[str]:
    """Normal; for units that are linear about 0, as tanh is, it balances what goes forward and backward."""
    return set_weights(model, lambda units, fan_in, fan_out: draw_normal(units, gain**2 * 2 / (fan_in + fan_out)))


def xavier_uniform(model: nn.Module, *, gain: float = 1.0) -> list[str]:
    """Uniform; see `xavier_normal`."""
    return set_weights(model, lambda units, fan_in, fan_out: draw_uniform(units, gain**2 * 2 / (fan_in + fan_out)))


def he_normal(model: nn.Module, *, mode: str = "fan_in", slope: float = 0.0) -> list[str]:
    """Normal; makes up for what rectifiers drop.

    Args:
        mode: fan_in keeps the variance of what goes forward, fan_out that of gradients, fan_avg compromises.
        slope: of the rectifier below 0: 0 for ReLU, 0.01 for torch's leaky ReLU, 1 for a linear unit.
    """
    variance = he_variance(mode, slope)
    return set_weights(model, lambda units, fan_in, fan_out: draw_normal(units, variance(fan_in, fan_out)))


def he_uniform(model: nn.Module, *, mode: str = "fan_in", slope: float = 0.0) -> list[str]:
    """Uniform; see `he_normal`."""
    variance = he_variance(mode, slope)
    return set_weights(model, lambda units, fan_in, fan_out: draw_uniform(units, variance(fan_in, fan_out)))


def he_variance(mode: str, slope: float) -> Callable[[int, int], float]:
    """(fan_in, fan_out) -> 2 / ((1 + slope^2) fan)."""
    if mode not in MODES:
        raise UserError(f"There is no init.mode={mode}{suggest(mode, MODES)}")

    def variance(fan_in: int, fan_out: int) -> float:
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]
        return 2 / ((1 + slope**2) * fan)

    return variance


def orthogonal(model: nn.Module, *, gain: float = 1.0) -> list[str]:
    """Each map by a matrix drawn evenly from those with orthonormal rows (or columns, where there are more rows)."""

    def fill(units: Tensor, fan_in: int, fan_out: int) -> None:
        drawn = torch.randn(*units.shape[:2], fan_in, dtype=units.dtype, device=units.device)  # (G, U, I k)
        wide = drawn.shape[1] < drawn.shape[2]
        q, r = torch.linalg.qr(drawn.mT if wide else drawn)  # columns of q are orthonormal
        q = q * r.diagonal(dim1=1, dim2=2).sign().unsqueeze(1)  # else QR prefers some matrices
        units.copy_(gain * (q.mT if wide else q).reshape(units.shape))

    return set_weights(model, fill)


def left_alone(model: nn.Module, names: list[str]) -> dict[str, int]:
    """How many tensors of each kind of layer are not among `names`."""
    found: dict[str, int] = {}
    for path, module in model.named_modules():
        number = sum(name not in names for name, _ in module.named_parameters(path, recurse=False))
        if number:
            found[type(module).__name__] = found.get(type(module).__name__, 0) + number
    return found
