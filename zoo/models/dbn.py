"""Deep belief net: restricted Boltzmann machines on top of one another, learned layer by layer.

Hinton, Osindero, Teh, "A fast learning algorithm for deep belief nets", 2006. The hidden units of each machine are the
data of the next. What comes out is a generator: the top two layers are a Boltzmann machine, and from there down each
layer draws the one below,

    p(v, h_1, .., h_L) = p(v | h_1) p(h_1 | h_2) .. p(h_(L-2) | h_(L-1)) p(h_(L-1), h_L)

each new layer raising a bound on log p(v) (section 4). It is also a start for a classifier: with a linear head on top
the up-pass h_l = sigmoid(c_l + h_(l-1) W_l) is a multilayer perceptron, whose weights backpropagation goes on with.

    python train.py model=dbn run_dir=stack
    python train.py model=dbn task=classification pretrained=stack

Departures from the paper
1. No label units beside the top layer; classes are learned by the head (Bengio, Lamblin, Popovici, Larochelle 2007).
2. No up-down algorithm after the greedy learning: weights stay tied, up and down.

Axes: B batch, V visible units, H units of a layer, K classes
Trained by: contrastive_divergence, then classification    Data: images with pixels in [0, 1]; any table
Equal to: an MLP of sigmoids with the same weights; with one layer, the RBM (tests)
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.errors import UserError
from zoo.layers.boltzmann import SigmoidStack


class DBN(SigmoidStack):
    """A stack of machines, and a linear head where classes are asked for.

    Args:
        in_features, image_shape, num_outputs, visible, std: see `SigmoidStack`.
        hidden_features: H of each layer, from the data upwards.
        gibbs_steps: of a sample, in the top two layers.
    """

    def __init__(
        self,
        *,
        in_features: int | None,
        hidden_features: Sequence[int] = (256, 256),
        image_shape: Sequence[int] | None = None,
        num_outputs: int | None = None,
        visible: str | None = None,
        std: float | None = 0.01,
        gibbs_steps: int = 1000,
    ) -> None:
        super().__init__(
            in_features=in_features,
            hidden_features=hidden_features,
            image_shape=image_shape,
            num_outputs=num_outputs,
            visible=visible,
            std=std,
        )
        self.gibbs_steps = gibbs_steps

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator, label: Tensor | None = None) -> Tensor:
        """(n, *image_shape): probabilities or means, after Gibbs sampling at the top and one pass down.

        Raises:
            UserError: a label is asked for, of which the stack knows nothing.
        """
        if label is not None:
            raise UserError("model=dbn learns without labels and cannot draw one class; leave label= out.")
        h = self.layers[-1].dream(n, self.gibbs_steps, generator)  # (n, H) of the top layer
        for layer in list(self.layers)[:0:-1]:  # all but the first, from the top
            noise = torch.rand(n, len(layer.visible_bias), generator=generator)
            h = layer.sample_visible(h, noise.to(h))  # (n, H) of the layer below
        return self.down(h, 1)  # (n, *image_shape)
