"""Why a network gives an answer: where in the input its score comes from.

* `grad_cam`: Selvaraju et al., "Grad-CAM: Visual explanations from deep networks via gradient-based localization",
  2017, equations 1 and 2. Which places of the last feature maps speak for a class.
* `saliency`: Simonyan, Vedaldi, Zisserman, "Deep inside convolutional networks", 2014, section 3. How strongly the
  score reacts to a small change of each pixel.
* `integrated_gradients`: Sundararajan, Taly, Yan, "Axiomatic attribution for deep networks", 2017, equation 1. How much
  each value has changed the score, compared with a baseline; the parts add up to the whole.

Written out, not taken from captum: they are three short equations, and its Grad-CAM finds no layer by itself and goes
wrong on a module that is called twice, such as LeNet-5's activation. Equal to captum where both can (tests).

A model is any module (B, ...) -> (B, K). It is called in evaluation mode; afterwards its parameters, their gradients
and the mode of each module are as they were.

Axes: B batch, C channels, H height, W width, F features, K classes, k feature maps, h w their height and width
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import UserError, suggest


@contextmanager
def evaluated(model: nn.Module) -> Iterator[None]:
    """Evaluation mode with gradients, also where inference mode has switched them off."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, training in modes:  # each its own: a frozen layer may be in evaluation mode all the time
            module.training = training


def class_scores(model: nn.Module, inputs: Tensor, classes: Tensor) -> Tensor:
    """(B,): the score of each input's class, before a softmax outside the model.

    A single output z is the score of class 1, and -z that of class 0.
    """
    # `forward` itself, since a compiled call would pass by the hooks of Grad-CAM.
    outputs = getattr(model, "scores", model.forward)(inputs)  # (B, K)
    if outputs.shape[1] == 1:
        return outputs[:, 0] * (2 * classes - 1)
    return outputs.gather(1, classes[:, None].clone())[:, 0]  # a copy: one of inference mode has no place in a graph


def derivative(scores: Tensor, at: Tensor) -> Tensor:
    """d scores / d at; in evaluation mode an input has no part in the scores of the others, so their sum will do."""
    if not scores.requires_grad:
        raise UserError("The model's answer has no gradient with respect to its input, so that it cannot be explained.")
    return torch.autograd.grad(scores.sum(), at, materialize_grads=True)[0]


def leaf(inputs: Tensor) -> Tensor:
    """A copy that gradients can be taken with respect to."""
    if not inputs.is_floating_point():
        raise UserError("Only models of images and tables can be explained: tokens have no gradient.")
    return inputs.detach().clone().requires_grad_()


def input_gradients(model: nn.Module, inputs: Tensor, classes: Tensor) -> Tensor:
    """d score / d input, in the shape of the inputs."""
    x = leaf(inputs)
    return derivative(class_scores(model, x.clone(), classes), x)  # a copy, which the model may change in place


def saliency(model: nn.Module, inputs: Tensor, classes: Tensor) -> Tensor:
    """|d score / d input|: images (B, C, H, W) -> (B, H, W), the largest over the channels; (B, F) -> (B, F)."""
    with evaluated(model):
        strength = input_gradients(model, inputs, classes).abs()
    return strength.amax(1) if inputs.ndim == 4 else strength


def integrated_gradients(
    model: nn.Module, inputs: Tensor, classes: Tensor, *, baseline: Tensor | None = None, steps: int = 32,
    most_steps: int = 512,
) -> Tensor:  # fmt: skip
    """(x - x') times the mean gradient on the straight way from the baseline x' to x; in the shape of the inputs.

    Args:
        baseline: x', broadcast to the inputs; None is 0, the mean of data that are standardized.
        steps: points on the way. As the paper advises (section 5), they become more for those inputs whose attributions
            do not yet add up to f(x) - f(x') within 5 %.
        most_steps: after which that is given up.

    Raises:
        UserError: it was given up; the score jumps, or its gradient is not the true one.
    """
    with evaluated(model):
        x = inputs.detach().clone()
        start = torch.zeros_like(x) if baseline is None else baseline.to(x).expand_as(x)
        attributions = torch.zeros_like(x)
        left = torch.arange(len(x), device=x.device)  # inputs that do not add up yet
        with torch.no_grad():
            change = class_scores(model, x.clone(), classes) - class_scores(model, start.clone(), classes)  # (B,)
        while len(left):
            if steps > most_steps:
                raise UserError("Integrated gradients do not add up to the change of the score; take saliency instead.")
            attributions[left] = along_the_way(model, start[left], x[left], classes[left], steps)
            parts = attributions[left].flatten(1)
            # The sum of parts that cancel cannot be that exact: hence the second term.
            allowed = 0.05 * change[left].abs() + 0.001 * parts.abs().sum(1)
            left, steps = left[(parts.sum(1) - change[left]).abs() > allowed], 2 * steps
    return attributions


def along_the_way(model: nn.Module, start: Tensor, end: Tensor, classes: Tensor, steps: int) -> Tensor:
    """(end - start) times the mean gradient at the middles of `steps` stretches from one to the other."""
    total = torch.zeros_like(end)
    for step in range(steps):
        total += input_gradients(model, start + (step + 0.5) / steps * (end - start), classes)
    return (end - start) * total / steps


class Maps(NamedTuple):
    """What one call of a module gave: maps (B, k, h, w)."""

    name: str
    module: nn.Module
    output: Tensor


@contextmanager
def watched(model: nn.Module) -> Iterator[list[Maps]]:
    """A list that each call of a module inside adds its feature maps to, in the order of the calls."""
    calls: list[Maps] = []

    def note(name: str) -> Any:
        def hook(module: nn.Module, arguments: Any, output: Any) -> Tensor | None:
            if not isinstance(output, Tensor) or output.ndim != 4:
                return None
            calls.append(Maps(name, module, output))
            return output.clone()  # what follows may change it in place

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in model.named_modules() if name]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def last_maps(model: nn.Module, calls: list[Maps], layer: str | None) -> Tensor:
    """The last maps (B, k, h, w) as large as the last convolution's: normalized and activated, not yet pooled.

    Args:
        layer: name of the module whose last maps it shall be instead.
    """
    if layer is not None:
        if layer not in {name for name, _ in model.named_modules()}:
            raise UserError(f"The model has no layer '{layer}'{suggest(layer, dict.fromkeys(c.name for c in calls))}")
        named = [call.output for call in calls if call.name == layer]
        if not named:
            raise UserError(f"The layer '{layer}' gives no feature maps (B, k, h, w), which Grad-CAM needs.")
        return named[-1]
    sizes = [call.output.shape[2:] for call in calls if isinstance(call.module, nn.Conv2d)]
    sizes = [size for size in sizes if size.numel() > 1]  # a map of one pixel has no places to tell apart
    if not sizes:
        network = type(model).__name__
        raise UserError(f"Grad-CAM needs feature maps, and {network} has no 2-d convolution; take saliency instead.")
    return [call.output for call in calls if call.output.shape[2:] == sizes[-1]][-1]


def grad_cam(model: nn.Module, images: Tensor, classes: Tensor, *, layer: str | None = None) -> Tensor:
    """What speaks for a class, and where: (B, C, H, W) -> (B, H, W), at least 0.

    Args:
        layer: name of the module whose maps are looked at; None finds the last that are not yet pooled.

    Raises:
        UserError: the model has no feature maps, or no such layer.
    """
    if images.ndim != 4:
        raise UserError("Grad-CAM explains images; for rows of a table take saliency or integrated_gradients.")
    with evaluated(model):
        with watched(model) as calls:
            scores = class_scores(model, leaf(images).clone(), classes)
        maps = last_maps(model, calls, layer)  # (B, k, h, w)
        alpha = derivative(scores, maps).mean((2, 3), keepdim=True)  # equation 1, (B, k, 1, 1)
        heat = (alpha * maps).sum(1, keepdim=True).relu().detach()  # equation 2, (B, 1, h, w)
    return F.interpolate(heat, images.shape[2:], mode="bilinear", align_corners=False)[:, 0]  # (B, H, W)


METHODS = {"gradcam": grad_cam, "saliency": saliency, "integrated_gradients": integrated_gradients}


def by_name(method: str) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
    """The function of that name. Raises UserError with what there is."""
    if method not in METHODS:
        raise UserError(f"There is no method '{method}' to explain by{suggest(method, METHODS)}")
    return METHODS[method]  # type: ignore[return-value]


def heat_map(model: nn.Module, images: Tensor, classes: Tensor, method: str | None = None) -> tuple[str, Tensor]:
    """The name of the method and its picture (B, H, W) of images (B, C, H, W).

    Args:
        method: of `METHODS`; None is Grad-CAM for a network with feature maps, and else saliency. Integrated gradients
            are summed over the channels, and they alone may be below 0.
    """
    if method is None:
        try:
            return "gradcam", grad_cam(model, images, classes)
        except UserError:
            method = "saliency"
    heat = by_name(method)(model, images, classes)
    return method, heat.sum(1) if heat.ndim == 4 else heat
