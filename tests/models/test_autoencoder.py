import copy
from itertools import pairwise

import pytest
import torch
from torch import nn

from zoo.errors import UserError
from zoo.metrics.codes import fit_pca
from zoo.models.autoencoder import Autoencoder


def images(number=3, shape=(2, 5, 4)):
    return torch.rand(number, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_it_is_the_same_layers_in_torch(same_function):
    shape = {"code_activation": "Tanh", "output_activation": "Sigmoid", "activation": "ELU"}
    ours = Autoencoder(in_features=6, hidden_features=[5, 4], latent_size=2, **shape)

    class Theirs(nn.Module):
        def __init__(self):
            super().__init__()
            n = nn
            self.encoder = n.Sequential(
                n.Linear(6, 5), n.ELU(), n.Linear(5, 4), n.ELU(), n.Linear(4, 2), n.Tanh()
            )  # fmt: skip
            self.decoder = n.Sequential(
                n.Linear(2, 4), n.ELU(), n.Linear(4, 5), n.ELU(), n.Linear(5, 6), n.Sigmoid()
            )  # fmt: skip

        def forward(self, x):
            return self.decoder(self.encoder(x))

    same_function(ours, Theirs(), torch.rand(7, 6))


@pytest.mark.parametrize("hidden", [[], [9], [9, 7, 5]], ids=str)
def test_images_come_back_as_images_and_rows_as_rows_at_any_depth(hidden):
    x = images()
    of_images = Autoencoder(image_shape=[2, 5, 4], hidden_features=hidden, latent_size=3).double()
    of_rows = Autoencoder(in_features=40, hidden_features=hidden, latent_size=3).double()
    of_rows.load_state_dict(of_images.state_dict())
    codes = of_images.encode(x)
    assert codes.shape == (3, of_images.latent_size) == (3, 3)
    assert of_images(x).shape == of_images.decode(codes).shape == x.shape
    assert torch.equal(of_images(x), of_images.decode(codes))
    assert torch.equal(of_rows(x.flatten(1)), of_images(x).flatten(1))
    widths = [(m.in_features, m.out_features) for m in of_images.modules() if isinstance(m, nn.Linear)]
    down = [*pairwise([40, *hidden, 3])]
    assert widths == down + [(after, before) for before, after in down[::-1]]


def test_tied_weights_are_one_parameter_with_the_gradient_of_both_uses():
    torch.manual_seed(0)
    tied = Autoencoder(in_features=6, hidden_features=[5], latent_size=2, activation="Tanh", tied=True).double()
    free = Autoencoder(in_features=6, hidden_features=[5], latent_size=2, activation="Tanh").double()
    assert sum(p.numel() for p in tied.parameters()) == 6 * 5 + 5 * 2 + (5 + 2) + (5 + 6)
    first, last = tied.encoder[0], tied.encoder[2]
    with torch.no_grad():
        for layer, weight in zip((free.encoder[0], free.encoder[2], free.decoder[2], free.decoder[0]),
                                 (first.weight, last.weight, first.weight.T, last.weight.T), strict=True):  # fmt: skip
            layer.weight.copy_(weight)
            layer.bias.uniform_(-1, 1)
        for i in (0, 2):
            tied.encoder[i].bias.copy_(free.encoder[i].bias)
            tied.decoder[i].bias.copy_(free.decoder[i].bias)
    x = images(4, (6,))
    torch.testing.assert_close(tied(x), free(x))
    for model in (tied, free):
        (model(x) - x).square().sum().backward()
    torch.testing.assert_close(first.weight.grad, free.encoder[0].weight.grad + free.decoder[2].weight.grad.T)
    torch.testing.assert_close(last.weight.grad, free.encoder[2].weight.grad + free.decoder[0].weight.grad.T)


def test_tied_weights_stay_tied_in_copies_and_state_dicts():
    model = Autoencoder(in_features=6, hidden_features=[5], latent_size=2, tied=True).double()
    other = Autoencoder(in_features=6, hidden_features=[5], latent_size=2, tied=True).double()
    other.load_state_dict(model.state_dict())
    x, copied = images(4, (6,)), copy.deepcopy(model)
    for twin in (other, copied):
        assert torch.equal(twin(x), model(x))
        assert twin.decoder[0].layer[0] is twin.encoder[2]
    before = model(x)
    copied.encoder[0].weight.data.zero_()
    assert torch.equal(model(x), before)


def test_a_linear_one_ends_at_pca_and_no_lower():
    """Baldi and Hornik 1989: there is no other minimum. On digits, 5 codes."""
    from zoo.data.digits import Digits

    part = Digits(normalize=False).part("train")
    x = part[torch.arange(0, len(part), 2)].image.double()
    torch.manual_seed(0)
    model = Autoencoder(image_shape=[1, 8, 8], hidden_features=[], latent_size=5).double()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=150, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = (model(x) - x).square().flatten(1).sum(1).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    least, found = fit_pca([x.flatten(1)], 5).squared_errors(x.flatten(1)).mean().item(), closure().item()
    assert least * (1 - 1e-9) <= found <= least * 1.005


def test_the_closed_form_is_offered_for_one_layer_of_sigmoids_alone():
    sigmoids = {"in_features": 6, "latent_size": 2, "code_activation": "Sigmoid"}
    one = Autoencoder(**sigmoids, hidden_features=[])
    assert one.one_sigmoid_layer is one.encoder[0].weight
    assert Autoencoder(**sigmoids, hidden_features=[4]).one_sigmoid_layer is None
    assert Autoencoder(in_features=6, hidden_features=[], latent_size=2).one_sigmoid_layer is None


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"activation": "Relu"}, "did you mean 'ReLU'"),
        ({"output_activation": "sigmoid"}, "did you mean 'Sigmoid'"),
        ({"image_shape": [1, 2, 2]}, "in_features=6 does not agree"),
        ({"in_features": None}, "in_features=None"),
    ],
)
def test_what_cannot_be_is_one_line(wrong, told):
    with pytest.raises(UserError, match=told):
        Autoencoder(**({"in_features": 6, "latent_size": 2} | wrong))
