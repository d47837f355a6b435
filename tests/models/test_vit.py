import pytest
import torch
from torch import nn

from zoo.errors import UserError
from zoo.models.vit import ViT, from_torchvision

SMALL = {"image_shape": (3, 16, 16), "num_classes": 5, "patch_size": 4, "d_model": 12, "num_heads": 3, "num_layers": 2}


def vit(**options):
    torch.manual_seed(0)
    return ViT(**SMALL | options).double()


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_equals_torchvisions_forward_and_backward():
    from torchvision.models.vision_transformer import VisionTransformer

    theirs = VisionTransformer(16, 4, 2, 3, 12, 48, num_classes=5).double()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours, batch = vit(), images(4, 3, 16, 16)
    ours.load_torchvision(theirs.state_dict())
    found, expected = ours(batch), theirs(batch)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    for logits in (found, expected):
        nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    gradients = from_torchvision({name: p.grad for name, p in theirs.named_parameters()})
    assert len(gradients) == len(list(ours.parameters()))
    for name, parameter in ours.named_parameters():
        assert parameter.grad.any(), name
        torch.testing.assert_close(
            parameter.grad, gradients[name], rtol=0, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize(
    ("shape", "patch_size", "num_patches"),
    [((1, 8, 8), 2, 16), ((1, 28, 28), 7, 16), ((1, 28, 28), 4, 49), ((3, 8, 12), 4, 6), ((2, 6, 6), 6, 1)],
)
def test_there_is_a_place_for_each_patch_and_the_class(shape, patch_size, num_patches):
    model = vit(image_shape=shape, patch_size=patch_size)
    assert model.positions.weight.shape == (1 + num_patches, 12)
    logits = model(images(2, *shape))
    logits.square().sum().backward()
    assert logits.shape == (2, 5)
    assert [name for name, p in model.named_parameters() if not p.grad.any()] == []


def test_the_order_of_patches_counts_by_their_places_alone():
    model, batch = vit(), images(2, 3, 16, 16)
    turned = batch.roll(4, 3)  # by one patch
    assert not torch.allclose(model(batch), model(turned))
    model.positions.weight.data.zero_()
    torch.testing.assert_close(model(batch), model(turned), rtol=0, atol=1e-10)


def test_it_starts_with_patches_as_loud_as_their_pixels():
    torch.manual_seed(0)
    model = ViT(image_shape=(3, 32, 32), num_classes=10, patch_size=8, d_model=192)
    assert model.patches(torch.randn(8, 3, 32, 32)).std().item() == pytest.approx(1, rel=0.05)
    logits = model(torch.randn(8, 3, 32, 32))
    assert 0.05 < logits.std() < 0.5  # all classes nearly alike


@pytest.mark.parametrize("which", ["dropout", "attention_dropout"])
def test_dropout_acts_in_training_alone(which):
    model, batch = vit(**{which: 0.5}), images(2, 3, 16, 16)
    assert not torch.equal(model(batch), model(batch))
    model.eval()
    assert torch.equal(model(batch), model(batch))


@pytest.mark.parametrize(
    ("shape", "patch_size"), [((1, 28, 28), 8), ((1, 8, 12), 12), ((1, 12, 8), 12), ((1, 8, 8), 0)]
)
def test_patches_that_do_not_cover_the_image_are_one_line(shape, patch_size):
    telling = rf"model\.patch_size={patch_size} does not divide images of {shape[1]} x {shape[2]} pixels"
    with pytest.raises(UserError, match=telling):
        vit(image_shape=shape, patch_size=patch_size)
