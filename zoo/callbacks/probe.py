"""One node of a network, by its address N[i][L]: how it answers on samples it has not learned from.

The address is that of `zoo.callbacks.layer_table`: L counts uses of layers with weights from 0 at the input, i counts
the values of one sample from 1, row by row where there are several axes. A node answers behind the activation that
follows its layer, where there is one.
"""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from zoo.callbacks.activity import ACTIVATIONS
from zoo.callbacks.curves import iterations_done
from zoo.callbacks.layer_table import has_parameters_of_its_own
from zoo.callbacks.showing import first_batch, writers
from zoo.errors import UserError


def answers(model: nn.Module, inputs: tuple[Tensor, ...], layer: int, node: int) -> Tensor:
    """What node N[i][L] says of each sample (of each real step, where sequences are packed), (B,).

    Args:
        inputs: a batch, (B, ...) each; the model is called with it once, in evaluation mode, without gradients.
        layer, node: L and i.

    Raises:
        UserError: there is no such node.
    """
    level, found = 0, inputs[0] if layer == 0 else None

    def hook(module: nn.Module, arguments: Any, output: Any) -> None:
        nonlocal level, found
        first = output[0] if isinstance(output, tuple) else output
        first = first.data if isinstance(first, PackedSequence) else first  # (real steps of all samples, H)
        if isinstance(module, ACTIVATIONS):
            found = first if level == layer > 0 else found
        elif has_parameters_of_its_own(module):
            level += 1
            found = first if level == layer else found

    handles = [module.register_forward_hook(hook) for module in model.modules()]
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval().forward(*inputs)  # not through a compiled call, which knows no hooks
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    if found is None:
        raise UserError(
            f"There is no layer {layer} for callbacks.probe: this network has 0 to {level}, see samples/layers."
        )
    values = found.detach().flatten(1) if found.ndim > 1 else found.detach()[:, None]  # (B, nodes)
    if not 1 <= node <= values.shape[1]:
        raise UserError(f"There is no node N[{node}][{layer}]: layer {layer} has nodes 1 to {values.shape[1]}.")
    return values[:, node - 1].float()


class Probe(Callback):
    """A histogram of one node's answers to 256 validation samples, before training and after every epoch.

    Args:
        layer, node: L and i of its address N[i][L].
    """

    lean = True

    def __init__(self, layer: int, node: int = 1) -> None:
        if type(layer) is not int or type(node) is not int or layer < 0:
            raise UserError(f"callbacks.probe: layer={layer} must be a whole number from 0 on, node={node} one from 1.")
        self.layer, self.node = layer, node

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if iterations_done(trainer) == 0:
            self._draw(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._draw(trainer, pl_module)

    def _draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        batch = first_batch(trainer, "val") if writers(trainer) else None
        if batch is None:
            return
        values = answers(pl_module.model, batch.inputs, self.layer, self.node)
        for writer in writers(trainer):
            writer.add_histogram(f"probe/N[{self.node}][{self.layer}]", values, iterations_done(trainer))
