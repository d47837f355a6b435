import pytest
import torch
from torch.nn import functional as F

from zoo.losses.segmentation import UNKNOWN, pixel_cross_entropy, soft_dice

CERTAIN = 50.0


def drawn(*, known: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 5, 6, generator=generator, dtype=torch.float64)
    masks = torch.randint(4, (3, 5, 6), generator=generator)
    if not known:
        masks[0, :2] = masks[2] = UNKNOWN
    return logits, masks


def test_the_cross_entropy_is_torchs_and_unknown_pixels_do_not_count():
    logits, masks = drawn(known=False)
    found = pixel_cross_entropy(logits, masks)
    for i in (0, 1):
        expected = F.cross_entropy(logits[i : i + 1], masks[i : i + 1], ignore_index=UNKNOWN)
        assert found[i].item() == pytest.approx(expected.item())
    assert found[2] == 0
    logits, masks = drawn()
    assert pixel_cross_entropy(logits, masks).mean().item() == pytest.approx(F.cross_entropy(logits, masks).item())


def test_the_dice_loss_of_certain_answers_is_one_minus_dice():
    """Squares of 2 x 2 that share one pixel: (2 * 1 + 1) / (8 + 1), and (2 * 9 + 1) / (24 + 1) of the background."""
    said, true = torch.zeros(2, 4, 4, dtype=torch.int64)
    said[:2, :2] = true[1:3, 1:3] = 1
    logits = CERTAIN * F.one_hot(said, 2).movedim(2, 0)[None].double()
    assert soft_dice(logits, true[None]).item() == pytest.approx(1 - (3 / 9 + 19 / 25) / 2)
    right = CERTAIN * F.one_hot(true, 2).movedim(2, 0)[None].double()
    assert soft_dice(right, true[None]).item() == pytest.approx(0, abs=1e-9)


def test_the_dice_loss_does_not_see_unknown_pixels_and_is_nothing_where_all_are():
    logits, masks = drawn(known=False)
    found = soft_dice(logits, masks)
    changed = torch.where((masks == UNKNOWN)[:, None], 100 * torch.ones_like(logits), logits)
    assert torch.equal(soft_dice(changed, masks), found)
    assert found[2].item() == pytest.approx(0)


def test_both_have_the_gradient_of_their_value():
    logits, masks = drawn(known=False)
    for loss in (pixel_cross_entropy, soft_dice):
        assert torch.autograd.gradcheck(lambda x, f=loss: f(x, masks), logits.clone().requires_grad_())
