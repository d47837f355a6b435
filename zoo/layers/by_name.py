"""Activations and normalizations by their name in torch.nn, so that a config can choose them."""

from torch import nn

from zoo.errors import UserError, suggest

ACTIVATIONS = ("Sigmoid", "ReLU", "LeakyReLU", "Tanh", "Hardtanh", "GELU", "SiLU", "ELU", "Identity")
NORMALIZATIONS = ("BatchNorm1d", "LayerNorm")
OUTPUT_ACTIVATIONS = ("Softmax", "Sigmoid")


def activation(name: str) -> nn.Module:
    """The module `torch.nn.<name>` with its default arguments."""
    if name not in ACTIVATIONS:
        raise UserError(f"There is no activation '{name}'{suggest(name, ACTIVATIONS)}")
    return getattr(nn, name)()


def normalization(name: str, num_features: int) -> nn.Module:
    """The module `torch.nn.<name>` over the last axis of (B, num_features)."""
    if name not in NORMALIZATIONS:
        raise UserError(f"There is no normalization '{name}'{suggest(name, NORMALIZATIONS)}")
    return getattr(nn, name)(num_features)


def output_activation(name: str | None) -> nn.Module:
    """From logits (B, K) to probabilities: `Softmax` over the K classes, `Sigmoid` for each alone; None: no change."""
    if name is not None and name not in OUTPUT_ACTIVATIONS:
        raise UserError(f"There is no output activation '{name}'{suggest(name, OUTPUT_ACTIVATIONS)}")
    return nn.Identity() if name is None else nn.Softmax(dim=1) if name == "Softmax" else nn.Sigmoid()
