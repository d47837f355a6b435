"""Normalization written out: twins of torch.nn's batch norm and layer norm.

Ioffe, Szegedy, "Batch normalization: accelerating deep network training by reducing internal covariate shift", 2015,
algorithms 1 and 2; Ba, Kiros, Hinton, "Layer normalization", 2016, equation 3:

    y = gamma (x - mean) / sqrt(variance + epsilon) + beta

Batch norm takes mean and variance of a channel over the batch (and over all places of an image), and in evaluation the
running ones. Layer norm takes them of one sample over its features, in training and evaluation alike.

Axes: B batch, C channels or features, *N no axis, one or two
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from zoo.scratch.convolution import along_channels


class BatchNorm(_BatchNorm):
    """What tables, sequences and images share."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *N) -> the same shape."""
        if self.training or self.running_mean is None or self.running_var is None:
            mean, variance = self.of_the_batch(x)
        else:
            mean, variance = self.running_mean, self.running_var
        y = (x - along_channels(mean, x)) / along_channels(torch.sqrt(variance + self.eps), x)
        if self.weight is None or self.bias is None:
            return y
        return along_channels(self.weight, x) * y + along_channels(self.bias, x)

    def of_the_batch(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of each channel, (C,) each."""
        values = x.transpose(0, 1).flatten(1)  # (C, B * all of *N)
        count = values.shape[1]
        if self.training and count == 1:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {x.shape}")
        mean = values.mean(1)
        variance = (values - mean[:, None]).square().mean(1)  # the biased one, with 1 / count
        if self.training and self.running_mean is not None:
            self.remember(mean.detach(), variance.detach() * count / (count - 1))
        return mean, variance

    @torch.no_grad()
    def remember(self, mean: Tensor, variance: Tensor) -> None:
        """running = (1 - momentum) running + momentum new, the variance unbiased; without momentum the mean so far."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean += share * (mean - self.running_mean)
        self.running_var += share * (variance - self.running_var)


class BatchNorm1d(BatchNorm, nn.BatchNorm1d):
    """(B, C) or (B, C, L)."""


class BatchNorm2d(BatchNorm, nn.BatchNorm2d):
    """(B, C, H, W)."""


class LayerNorm(nn.LayerNorm):
    """Over the last axes, as many as `normalized_shape` has."""

    def forward(self, x: Tensor) -> Tensor:
        axes = list(range(-len(self.normalized_shape), 0))
        centred = x - x.mean(axes, keepdim=True)
        y = centred / torch.sqrt(centred.square().mean(axes, keepdim=True) + self.eps)
        y = y if self.weight is None else self.weight * y
        return y if self.bias is None else y + self.bias
