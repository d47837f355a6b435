"""oneDNN computes much of torch on a CPU; here it is told where to stay away, and where to help."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LARGE = 2**20  # numbers of a matrix that is beyond the second cache of a core


@contextmanager
def without_onednn() -> Iterator[None]:
    """On a CPU, oneDNN packs an LSTM's weights anew in each call, ten times as long as one step takes without it."""
    backend: Any = torch.backends.mkldnn
    before = backend.enabled
    backend.enabled = False
    try:
        yield
    finally:
        backend.enabled = before


def where_it_can(layers: nn.Module) -> AbstractContextManager[None]:
    """Around a call of recurrent layers: without oneDNN where autocast has cast to what it cannot compute with.

    torch gives every LSTM on a CPU to oneDNN, also in mixed precision on a processor that has no instructions for it,
    and there oneDNN refuses. torch's own kernels, which take it everywhere, compute RNN and GRU anyhow.
    """
    if not isinstance(layers, nn.LSTM) or not torch.is_autocast_enabled("cpu"):
        return nullcontext()
    asked = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}  # no public name
    has = getattr(torch.ops.mkldnn, asked.get(torch.get_autocast_dtype("cpu"), ""), None)
    return nullcontext() if has is None or has() else without_onednn()


@contextmanager
def packed(model: nn.Module) -> Iterator[None]:
    """Within it, a model on a CPU takes its largest linear maps in less time, of few rows and without gradients.

    The time of a product of few rows with a large matrix goes into bringing the matrix into the order in which it is
    read, and torch does so in each call. Here that is done once: 8000 logits of 256 features take a third of the time
    for 8 rows, two thirds for 64. The answers are the same but for rounding. Weights must stay as they are meanwhile.
    """
    layers: list[Any] = [module for module in model.modules() if is_large(module)] if can_pack() else []
    for layer in layers:
        weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach())  # no public name has it
        layer.forward = partial(apply, layer, weight)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def can_pack() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def is_large(module: nn.Module) -> bool:
    """Whether a module is a linear map that is worth it, and not packed already."""
    if type(module) is not nn.Linear or "forward" in vars(module):
        return False
    weight = module.weight
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.numel() >= LARGE


def apply(layer: nn.Linear, weight: Tensor, x: Tensor) -> Tensor:
    """(..., features) -> (..., units), by a packed weight if no gradient is wanted."""
    if torch.is_grad_enabled():
        return F.linear(x, layer.weight, layer.bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, layer.bias, "none", [], "")
