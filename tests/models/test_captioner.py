"""Places of an image as what a decoder looks at."""

import pytest
import torch
from torch.nn import functional as F

from zoo.errors import UserError
from zoo.models.captioner import Captioner

V, T = 11, 5
IMAGE = torch.rand(3, 2, 10, 14, generator=torch.Generator().manual_seed(0)).double()
TGT = torch.randint(4, V, (3, T), generator=torch.Generator().manual_seed(1))
VARIANTS = [("none", False), ("context", False), ("general", True), ("additive", False)]


def made(attention="additive", input_feeding=False, **settings):
    torch.manual_seed(0)
    sizes = {"image_shape": [2, 10, 14], "tgt_vocab_size": V, "channels": [4, 7], "embedding_dim": 5, "hidden_size": 6}
    model = Captioner(attention=attention, input_feeding=input_feeding, **(sizes | settings))
    return model.double().eval()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize(("attention", "feeding"), VARIANTS)
def test_every_kind_of_attention_decodes_word_by_word_and_trains(cell, attention, feeding):
    model = made(attention, feeding, cell=cell, num_layers=2)
    logits = model(IMAGE, None, TGT)
    state = model.start(model.encode(IMAGE, None), None)
    for t in range(T):
        found, state = model.step(TGT[:, t : t + 1], state)
        torch.testing.assert_close(found, logits[:, t], rtol=0, atol=1e-10)
    assert not torch.allclose(logits[0], model(IMAGE[1:], None, TGT[:1].expand(2, -1))[0])  # it sees the image
    F.cross_entropy(logits.flatten(0, 1), TGT.flatten()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_a_place_is_where_it_is_in_the_image_row_by_row():
    model = made()
    assert model.places == (5, 7)
    places = model.encode(IMAGE, None)
    assert places.shape == (3, 35, 7)
    changed = IMAGE.clone()
    changed[:, :, 6:8, 10:12] += 1  # what place (3, 5) of the feature map is pooled from
    differs = (model.encode(changed, None) != places).any(2).view(3, 5, 7)
    assert differs[:, 3, 5].all()
    assert not differs[:, :1].any()  # two kernels of 3, a halving between them: two places further at most
    assert not differs[:, :, :3].any()


def test_weights_are_shares_of_all_places_and_without_attention_there_are_none():
    weights = made().attention(IMAGE, None, TGT)
    assert list(weights) == ["alignment"]
    assert weights["alignment"].shape == (3, 1, T, 35)
    torch.testing.assert_close(weights["alignment"].sum(3), torch.ones(3, 1, T).double())
    assert made("none").attention(IMAGE, None, TGT) == {}


@pytest.mark.parametrize(
    ("wrong", "telling"),
    [
        ({"channels": [4] * 5}, "cannot be halved 4 times"),
        ({"channels": []}, "a number of maps for each"),
        ({"attention": "dot"}, "use model.attention=general"),
    ],
)
def test_what_no_network_can_be_is_said_in_one_line(wrong, telling):
    with pytest.raises(UserError, match=telling):
        made(**wrong)
