"""The weights of a network as its units have them: what one unit multiplies its inputs with, whatever the layer.

A layer stores its weights as is handy for it. Here each is seen as G maps side by side, each of U units with I inputs
(and a kernel of k places for each): G are the groups of a convolution, the gates of a recurrent layer, or query, key
and value of attention. Initialization needs to know it (`zoo.layers.init`), and so does max-norm.

    layer                   stored           seen as
    Linear                  (O, I)           (1, O, I)
    Conv                    (O, C/G, *k)     (G, O/G, C/G, *k)
    ConvTranspose           (C, O/G, *k)     (G, O/G, C/G, *k)
    RNN, GRU, LSTM          (G H, I)         (G, H, I)           both matrices, of the input and of the state
    MultiheadAttention      (3 E, E)         (3, E, E)

Axes: G maps, U units, I inputs of a unit, O outputs, C input channels, k kernel, H hidden size, E embedding
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
RECURRENT = (nn.RNNBase, nn.RNNCellBase)


@dataclass(frozen=True)
class LinearMap:
    """A parameter that maps inputs to units.

    Args:
        name: of the parameter in its network.
        parameter: as it is stored.
        groups: G.
        transposed: stored with the inputs first.
    """

    name: str
    parameter: nn.Parameter
    groups: int = 1
    transposed: bool = False

    @property
    def units(self) -> Tensor:
        """A view (G, U, I, *k), without gradient; what is written into it is written into the parameter."""
        grouped = self.parameter.detach().unflatten(0, (self.groups, -1))  # (G, U, I, *k) or (G, I, U, *k)
        return grouped.transpose(1, 2) if self.transposed else grouped

    @property
    def fan_in(self) -> int:
        """How many products a unit adds up: I times the places of the kernel. The stride is not counted."""
        return prod(self.units.shape[2:])

    @property
    def fan_out(self) -> int:
        """How many products an input goes into: U times the places of the kernel. The stride is not counted."""
        return self.units.shape[1] * prod(self.units.shape[3:])


def layers(model: nn.Module) -> Iterator[tuple[str, nn.Module, list[LinearMap]]]:
    """Dotted name, module and maps of each layer that has some; a parameter that two layers share is the first's."""
    seen: set[int] = set()
    for path, module in model.named_modules():
        found = [one for one in maps_of(module, f"{path}." if path else "") if id(one.parameter) not in seen]
        seen |= {id(one.parameter) for one in found}
        if found:
            yield path, module, found


def linear_maps(model: nn.Module) -> list[LinearMap]:
    """The maps of all layers, from the input to the output as the model lists them."""
    return [one for _, _, maps in layers(model) for one in maps]


def maps_of(module: nn.Module, prefix: str = "") -> list[LinearMap]:
    """The maps of one layer, without those of its children; empty for a layer of another kind."""
    own = {name: p for name, p in module.named_parameters(recurse=False) if p.ndim >= 2}
    groups: dict[str, int] = {}
    if isinstance(module, nn.Linear):
        groups = {"weight": 1}
    elif isinstance(module, (*CONVOLUTIONS, *TRANSPOSED)):
        groups = {"weight": module.groups}
    elif isinstance(module, RECURRENT):  # weight_hr projects the state of an LSTM; all else has a block for each gate
        groups = {name: 1 if name.startswith("weight_hr") else len(p) // module.hidden_size for name, p in own.items()}
    elif isinstance(module, nn.MultiheadAttention):
        groups = {"in_proj_weight": 3, "q_proj_weight": 1, "k_proj_weight": 1, "v_proj_weight": 1}
    transposed = isinstance(module, TRANSPOSED)
    return [LinearMap(prefix + name, p, groups[name], transposed) for name, p in own.items() if name in groups]
