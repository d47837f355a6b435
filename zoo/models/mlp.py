"""Multilayer perceptron: affine maps with a nonlinearity between them.

Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", 1986:

    h_l = f(W_l h_(l-1) + b_l),  h_0 = x        y = W_L h_(L-1) + b_L

The last map has no nonlinearity: logits for classes (the softmax is part of the loss), plain values for regression.
`output_activation` adds one, for a loss that takes probabilities.

Departures from the paper
1. f is of choice (the paper: sigmoid); dropout and normalization, both off by default, came later.
2. `residual` adds h_(l-1) to h_l where their widths agree (He, Zhang, Ren, Sun 2016, equation 1).

Axes: B batch, F input features, D width of a hidden layer, K outputs
Trained by: classification, binary, multilabel, regression    Data: any table or image set
Equal to: scikit-learn's MLPClassifier and a plain PyTorch loop (tests)
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from zoo.layers.by_name import activation as activation_by_name
from zoo.layers.by_name import normalization as normalization_by_name
from zoo.layers.by_name import output_activation as output_activation_by_name


class HiddenLayer(nn.Sequential):
    """Affine map, nonlinearity and what goes with them, (B, D_in) -> (B, D_out)."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        activation: str,
        dropout: float,
        normalization: str | None,
        normalize_after_activation: bool,
        residual: bool,
    ) -> None:
        super().__init__()
        self.adds_input = residual and in_features == out_features
        self.linear = nn.Linear(in_features, out_features)
        if normalization and not normalize_after_activation:
            self.normalization = normalization_by_name(normalization, out_features)
        self.activation = activation_by_name(activation)
        if normalization and normalize_after_activation:
            self.normalization = normalization_by_name(normalization, out_features)
        if dropout:
            self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x) if self.adds_input else super().forward(x)


class MLP(nn.Module):
    """Any number of hidden layers between the input and one affine output.

    Args:
        in_features: F, the size of one flattened input.
        out_features: K, the number of outputs.
        hidden_features: D of each hidden layer; empty gives a linear (softmax or ridge) model.
        activation: name in torch.nn, for instance ReLU, Tanh, Sigmoid.
        dropout: share of hidden units set to 0 in training.
        input_dropout: share of inputs set to 0 in training.
        normalization: BatchNorm1d, LayerNorm or None.
        normalize_after_activation: where the normalization stands.
        residual: whether each hidden layer adds its input to its output, where their widths agree.
        hidden_bias: where the biases of hidden units start; far below 0 a rectifier never fires.
        output_activation: Softmax or Sigmoid for probabilities, None for logits and values.
    """

    def __init__(
        self,
        *,
        in_features: int,
        out_features: int,
        hidden_features: Sequence[int] = (128,),
        activation: str = "ReLU",
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        normalization: str | None = None,
        normalize_after_activation: bool = False,
        residual: bool = False,
        hidden_bias: float = 0.0,
        output_activation: str | None = None,
    ) -> None:
        super().__init__()
        self.gives_probabilities = output_activation is not None
        widths = [in_features, *hidden_features]
        self.input_dropout = nn.Dropout(input_dropout)
        self.hidden = nn.Sequential(
            *(
                HiddenLayer(
                    before,
                    after,
                    activation=activation,
                    dropout=dropout,
                    normalization=normalization,
                    normalize_after_activation=normalize_after_activation,
                    residual=residual,
                )
                for before, after in pairwise(widths)
            )
        )
        self.output = nn.Linear(widths[-1], out_features)
        self.output_activation = output_activation_by_name(output_activation)
        self.reset_parameters(activation, hidden_bias)

    def reset_parameters(self, activation: str, hidden_bias: float) -> None:
        # Keeps the variance of the activations from layer to layer: He for rectifiers, which drop half of it, Xavier
        # for the others. Biases start alike, at 0, so no unit is favoured.
        for layer in self.hidden:
            assert isinstance(layer, HiddenLayer)
            if activation in ("ReLU", "LeakyReLU", "GELU", "SiLU", "ELU"):
                nn.init.kaiming_uniform_(layer.linear.weight, nonlinearity="relu")
            else:
                nn.init.xavier_uniform_(layer.linear.weight)
            nn.init.constant_(layer.linear.bias, hidden_bias)
        nn.init.xavier_uniform_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) with F values in all but the first axis -> (B, K)."""
        x = self.input_dropout(x.flatten(1))  # (B, F)
        x = self.hidden(x)  # (B, D)
        return self.output_activation(self.output(x))  # (B, K)
