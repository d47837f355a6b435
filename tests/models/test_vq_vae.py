import pytest
import torch
from torch import nn

from zoo.errors import UserError
from zoo.models.vq_vae import VQVAE


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def small(**options):
    torch.manual_seed(0)
    sizes = {"image_shape": (1, 8, 8), "channels": (6, 5), "num_entries": 7, "entry_size": 3}
    return VQVAE(**sizes | options).double()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 12)])
def test_the_code_is_the_nearest_entry_of_the_codebook(shape):
    model, x = small(image_shape=shape), randn(4, *shape)
    encoded = model.encoder(x)
    assert encoded.shape == (4, 3, shape[1] // 4, shape[2] // 4)
    distances = torch.cdist(encoded.movedim(1, -1).reshape(-1, 3), model.codebook)
    assert torch.equal(model.encode(x).flatten(), distances.argmin(1))
    assert len(model.encode(x).unique()) > 1


def test_it_is_the_same_layers_in_torch():
    model, x = small(), randn(2, 1, 8, 8)
    down = nn.Sequential(model.encoder[0], nn.ReLU(), model.encoder[2], nn.ReLU(), *model.encoder[4:])
    up = nn.Sequential(model.decoder[0], nn.ReLU(), model.decoder[2], nn.ReLU(), model.decoder[4])
    assert [len(model.encoder), len(model.decoder)] == [6, 5]
    torch.testing.assert_close(model.encoder(x), down(x))
    entries = nn.functional.embedding(model.encode(x), model.codebook).permute(0, 3, 1, 2)
    torch.testing.assert_close(model(x), up(entries))
    torch.testing.assert_close(model.decode(model.encode(x)), model(x))


def test_the_gradient_goes_straight_through():
    """What reaches the encoder is what the decoder sends to the entries; the codebook gets none of it."""
    model, x = small(), randn(2, 1, 8, 8)
    found = model.quantize(x)
    entries = found.entries.detach().requires_grad_()
    (sent,) = torch.autograd.grad(model.decoder(entries).square().sum(), entries)
    received, book = torch.autograd.grad(
        found.said.square().sum(), (found.encoded, model.codebook), allow_unused=True, materialize_grads=False
    )
    torch.testing.assert_close(received, sent)
    assert book is None


def test_images_that_cannot_be_halved_are_refused():
    for wrong in ({"image_shape": (1, 10, 8)}, {"channels": ()}):
        with pytest.raises(UserError, match="another number of layers"):
            small(**wrong)
