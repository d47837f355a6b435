import pytest
import torch

from zoo.batches import DomainBatch, ImageBatch
from zoo.data.digits import Digits
from zoo.data.shifted_digits import ShiftedDigits, faded
from zoo.errors import UserError


def rows(images):
    return {tuple(row) for row in images.flatten(1).tolist()}


def everything(part):
    return part[torch.arange(len(part))]


def test_no_digit_is_in_two_parts():
    data = ShiftedDigits(paper=0, ink=1, grain=0, normalize=False)
    train, test = everything(data.part("train")), everything(data.part("test"))
    assert isinstance(train, DomainBatch)
    assert isinstance(test, ImageBatch)
    parts = [rows(train.image), rows(train.target), rows(test.image)]
    assert sum(map(len, parts)) == len(set.union(*parts)) > 1780
    assert len(train.image) == len(train.target)
    assert torch.bincount(train.label).min() > 60
    assert set(data.prepare().parts) == {"train", "test"}


def test_a_row_of_the_source_has_nothing_to_do_with_its_row_of_the_target():
    data, digits = ShiftedDigits(paper=0, ink=1, grain=0, normalize=False), Digits(normalize=False)
    images, labels = digits.read()["train"]
    of = dict(zip(map(tuple, images.flatten(1).tolist()), labels.tolist(), strict=True))
    train = everything(data.part("train"))
    levels = (255 * train.target).round().long().flatten(1)
    classes = torch.tensor([of[tuple(row)] for row in levels.tolist()])
    assert (classes == train.label).double().mean() < 0.2, "0.1 is chance"


def test_copies_are_faded():
    images = torch.tensor([0, 255], dtype=torch.uint8).repeat(200, 1, 8, 4)
    copies = faded(images, 0.4, 0.3, 0.05, seed=0).double() / 255
    white, black = copies[..., ::2], copies[..., 1::2]
    assert white.mean().item() == pytest.approx(0.4, abs=0.003)
    assert black.mean().item() == pytest.approx(0.7, abs=0.003)
    assert white.std().item() == pytest.approx(0.05, abs=0.003)
    assert torch.equal(faded(images, 0.4, 0.3, 0.05, seed=0), faded(images, 0.4, 0.3, 0.05, seed=0))


@pytest.mark.parametrize("key", ["paper", "ink", "grain"])
def test_shares_lie_between_0_and_1(key):
    with pytest.raises(UserError, match=f"data.{key}=2 must be"):
        ShiftedDigits(**{key: 2})
