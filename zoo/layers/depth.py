"""A network as a row of blocks, from its input to its output: what fine-tuning freezes, wakes and slows down.

A block is a child of the network, or of a container (`Sequential`, `ModuleList`) in it, in the order in which they are
defined. A normalization belongs to the block before it, for it is of no use alone; the output layer is a block of its
own. Parameters that the network holds itself, such as a class token, belong to the first block.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
NORMALIZATIONS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


class Block(NamedTuple):
    """Some modules of a network, and the parameters in them that no earlier block has.

    Args:
        name: of its first module, as in `named_modules`.
        modules: not nested in one another.
        parameters: of the modules, and for the first block of the network itself.
    """

    name: str
    modules: tuple[nn.Module, ...]
    parameters: tuple[nn.Parameter, ...]


def head(model: nn.Module) -> nn.Module:
    """The output layer: the last module that has parameters of its own."""
    *_, last = (m for m in model.modules() if has_own(m))
    return last


def entering(model: nn.Module, layer: nn.Module, *inputs: Any) -> Tensor:
    """What goes into a layer of a network that is called with `inputs`: (B, ...), with its gradients if any are kept.

    Raises:
        ValueError: the network does not call that layer exactly once.
    """
    found: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda module, given: found.append(given[0]))
    try:
        model(*inputs)
    finally:
        handle.remove()
    if len(found) != 1:
        raise ValueError(f"{type(layer).__name__} is called {len(found)} times, not once")
    return found[0]


def has_own(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))


def blocks(model: nn.Module) -> list[Block]:
    """From the input to the output; each parameter is in one of them, a shared one in the first that has it."""
    last = head(model)
    parts = list(_parts(model, "", last)) if last is not model else [("", model)]
    rows: list[tuple[str, list[nn.Module]]] = []
    for name, module in parts:
        normalizes = all(isinstance(m, NORMALIZATIONS) for m in module.modules() if has_own(m))
        if rows and normalizes and module is not last:
            rows[-1][1].append(module)
        else:
            rows.append((name, [module]))
    taken: set[int] = set()
    found = []
    for number, (name, modules) in enumerate(rows):
        held = [] if number or model is last else list(model.parameters(recurse=False))
        held += [p for module in modules for p in module.parameters()]
        own = list({id(p): p for p in held if id(p) not in taken}.values())
        taken |= {id(p) for p in own}
        found.append(Block(name, tuple(modules), tuple(own)))
    return [block for block in found if block.parameters]


def _parts(module: nn.Module, prefix: str, last: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """What blocks are made of: children, those of containers, and whatever stands around the output layer."""
    children = [
        (prefix + name, child) for name, child in module.named_children() if any(True for _ in child.parameters())
    ]
    alone = len(children) == 1 and not has_own(module)
    for name, child in children:
        leads_to_last = child is not last and any(m is last for m in child.modules())
        if (isinstance(child, CONTAINERS) or alone or leads_to_last) and not has_own(child) and child is not last:
            yield from _parts(child, f"{name}.", last)
        else:
            yield name, child
