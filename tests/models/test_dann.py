import pytest
import torch
from torch import nn

from zoo.errors import UserError
from zoo.models.dann import DANN


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 5)])
def test_it_is_the_same_layers_in_torch(shape):
    model = DANN(image_shape=shape, num_classes=4, channels=(6, 7), num_features=5).double()
    trunk = nn.Sequential(model.conv1, nn.ReLU(), nn.MaxPool2d(2), model.conv2, nn.ReLU(), nn.Flatten(), model.dense)
    image = randn(3, *shape)
    features = trunk(image).relu()
    torch.testing.assert_close(model.features(image), features)
    torch.testing.assert_close(model(image), model.output(features))
    torch.testing.assert_close(model.domain(features), model.domain_head(features)[:, 0])


def test_the_trunk_gets_the_gradient_of_the_domain_reversed_and_its_head_as_it_is():
    model, image = DANN(image_shape=(1, 8, 8), num_classes=3).double(), randn(4, 1, 8, 8)
    found = []
    for told in (model.domain_head(model.features(image))[:, 0], model.domain(model.features(image), 0.3)):
        model.zero_grad()
        told.square().sum().backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    plain, turned = found
    for name, gradient in plain.items():
        assert gradient.abs().sum() > 0, name
        share = 1.0 if name.startswith("domain_head") else -0.3
        torch.testing.assert_close(turned[name], share * gradient)


def test_images_too_small_are_refused():
    with pytest.raises(UserError, match="at least 2 pixels"):
        DANN(image_shape=(1, 1, 5), num_classes=2)
