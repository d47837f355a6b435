"""Stacked denoising autoencoder: each layer learns to mend what was blotted out of the layer below.

Vincent, Larochelle, Lajoie, Bengio, Manzagol, "Stacked denoising autoencoders: learning useful representations in a
deep network with a local denoising criterion", 2010, section 3. One layer codes a corrupted input x~ and decodes it
with the same weights; what comes out is compared with the input as it was:

    h = sigmoid(c + x~ W)        z = sigmoid(b + W h)        loss = -sum_i x_i log z_i + (1 - x_i) log(1 - z_i)

Its codes of the clean data are the input of the next layer. With a linear head on top all layers are then trained as a
classifier.

    python train.py model=stacked_autoencoder run_dir=stack
    python train.py model=stacked_autoencoder task=classification pretrained=stack

Departures from the paper
1. Masking noise alone, which sets values to 0; tied weights alone.

Axes: B batch, V inputs of a layer, H units of a layer, K classes
Trained by: layerwise, then classification    Data: images with pixels in [0, 1]; any table
Equal to: an MLP of sigmoids with the same weights; the layout of a DBN (tests)
"""

from collections.abc import Sequence

from torch import Tensor

from zoo.layers.boltzmann import SigmoidStack


class StackedAutoencoder(SigmoidStack):
    """A stack of autoencoders with tied weights, and a linear head where classes are asked for.

    Args:
        in_features, image_shape, num_outputs, std: see `SigmoidStack`.
        hidden_features: H of each layer, from the data upwards.
        visible: "bernoulli" for values from 0 to 1, "gaussian" for any real ones, which are decoded without a sigmoid
            and judged by their squared error; None: by whether the data are images.
    """

    def __init__(
        self,
        *,
        in_features: int | None,
        hidden_features: Sequence[int] = (256, 256),
        image_shape: Sequence[int] | None = None,
        num_outputs: int | None = None,
        visible: str | None = None,
        std: float | None = None,
    ) -> None:
        super().__init__(
            in_features=in_features,
            hidden_features=hidden_features,
            image_shape=image_shape,
            num_outputs=num_outputs,
            visible=visible,
            std=std,
        )
        self.latent_size = int(hidden_features[-1])

    def encode(self, x: Tensor) -> Tensor:
        """(B, ...) -> codes (B, H) of the top layer."""
        return self.up(x)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, H) -> (B, *image_shape), probabilities or means."""
        return self.down(codes)
