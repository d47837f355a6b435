"""The layers of a network as a table, with nodes addressed N[i][L].

L counts from 0 at the input, i counts from 1; N[3][2] is the third node of the second layer.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence


def has_parameters_of_its_own(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))


def layer_table(model: nn.Module, inputs: tuple[Tensor, ...]) -> list[dict[str, Any]]:
    """One row for the input and one for each layer with weights, in the order in which they are used.

    What is used more than twice stands where it is used first.

    Args:
        inputs: a batch, (B, ...) each; the model is called with it once, in evaluation mode, without gradients.
    """
    rows = [_row(0, "input", "", tuple(inputs[0].shape[1:]), 0)]
    counted: set[nn.Module] = set()
    fired = dict.fromkeys((m for m in model.modules() if has_parameters_of_its_own(m)), False)

    def note(name: str) -> Any:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else output
            first = first.data if isinstance(first, PackedSequence) else first  # (real steps of all samples, H)
            # What is used twice has a row for each use and its parameters in the first; what a fused kernel uses
            # without calling it belongs to the layer that holds it.
            inside = [m for m in module.modules() if m in fired and (m is module or not fired[m]) and m not in counted]
            fired[module] = True
            counted.update(inside)
            count = sum(p.numel() for m in inside for p in m.parameters(recurse=False))
            rows.append(_row(len(rows), name, type(module).__name__, tuple(first.shape[1:]), count))

        return hook

    handles = [m.register_forward_hook(note(name or "model")) for name, m in model.named_modules() if m in fired]
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval()(*inputs)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return together(rows)


def together(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for what is used more than twice with the same size of output, as within a loop over steps."""
    uses: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        uses.setdefault((row["layer"], row["output"]), []).append(row)
    kept = []
    for row in rows:
        first, *others = uses[row["layer"], row["output"]]
        if len(others) < 2:
            kept.append(row)
        elif row is first:
            levels = f"{row['L']}, {others[0]['L']}, … {others[-1]['L']}"
            kept.append(row | {"L": levels, "kind": f"{row['kind']}, {len(others) + 1} times"})
    return kept


def _row(level: int, name: str, kind: str, size: tuple[int, ...], parameters: int) -> dict[str, Any]:
    nodes = 1
    for n in size:
        nodes *= n
    addresses = f"N[1][{level}]" if nodes == 1 else f"N[1][{level}] … N[{nodes}][{level}]"
    shape = " x ".join(map(str, size))
    return {
        "L": level,
        "layer": name,
        "kind": kind,
        "output": shape,
        "nodes": addresses,
        "parameters": f"{parameters:,}",
    }
