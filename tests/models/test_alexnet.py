import math

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from zoo.errors import UserError
from zoo.models.alexnet import AlexNet


def narrow():
    """torchvision's AlexNet with 16 units in place of 4096, which no one could wait for."""
    with torch.device("meta"):
        model = torchvision.models.alexnet()
    model.features.to_empty(device="cpu")
    for module in model.features:
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    model.classifier = nn.Sequential(
        nn.Dropout(), nn.Linear(256 * 6 * 6, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 16), nn.ReLU(),
        nn.Linear(16, 3),
    )  # fmt: skip
    return model


@pytest.mark.parametrize("size", [63, 90])
def test_the_large_one_equals_torchvisions_forward_and_backward(size, same_function):
    torch.manual_seed(0)
    model = AlexNet(in_channels=3, image_size=size, num_classes=3, variant="large", hidden_features=(16, 16))
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    same_function(model, narrow(), images)


def test_the_large_one_has_torchvisions_names_and_sizes_and_61_100_840_parameters():
    with torch.device("meta"):
        ours = AlexNet(in_channels=3, image_size=224, num_classes=1000, variant="large")
        theirs = torchvision.models.alexnet()
    named = [[(name, value.shape) for name, value in model.state_dict().items()] for model in (ours, theirs)]
    assert named[0] == named[1]
    assert sum(p.numel() for p in ours.parameters()) == 61_100_840


def test_at_224_pixels_nothing_is_averaged():
    with torch.device("meta"):
        model = AlexNet(in_channels=3, image_size=224, num_classes=2, variant="large")
        assert model.features(torch.zeros(1, 3, 224, 224)).shape == (1, 256, 6, 6)
    maps = torch.rand(1, 256, 6, 6)
    assert torch.equal(model.avgpool(maps), maps)


def plain_small(weights, x):
    """The small variant in evaluation, in functions alone."""
    for i, padding, pool in ((0, 2, True), (3, 2, True), (6, 1, False), (8, 1, False), (10, 1, True)):
        x = F.conv2d(x, weights[f"features.{i}.weight"], weights[f"features.{i}.bias"], padding=padding).relu()
        x = F.max_pool2d(x, 3, 2) if pool else x
    x = x.flatten(1)
    for i in (1, 4):
        x = F.linear(x, weights[f"classifier.{i}.weight"], weights[f"classifier.{i}.bias"]).relu()
    return F.linear(x, weights["classifier.6.weight"], weights["classifier.6.bias"])


@pytest.mark.parametrize("size", [28, 33])
def test_the_small_one_equals_its_formula_forward_and_backward(size):
    torch.manual_seed(0)
    model = AlexNet(in_channels=2, image_size=size, num_classes=3, widths=(4, 6, 8, 6, 4), hidden_features=(9, 7))
    model = model.double().eval()
    weights = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    x = torch.randn(3, 2, size, size, generator=torch.Generator().manual_seed(0)).double()
    outputs = model(x), plain_small(weights, x)
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-12)
    for output in outputs:
        F.cross_entropy(output, torch.arange(3)).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, weights[name].grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("variant", ["small", "large"])
def test_five_convolutions_three_dense_layers_and_windows_that_overlap(variant):
    with torch.device("meta"):
        model = AlexNet(in_channels=3, image_size=64, num_classes=2, variant=variant)
    kinds = [type(module) for module in model.modules()]
    assert (kinds.count(nn.Conv2d), kinds.count(nn.Linear), kinds.count(nn.Dropout)) == (5, 3, 2)
    pools = [(module.kernel_size, module.stride) for module in model.modules() if isinstance(module, nn.MaxPool2d)]
    assert pools == [(3, 2)] * 3


@pytest.mark.parametrize("size", [*range(15, 33), 48, 64])
def test_the_small_one_takes_any_size_from_15_on(size):
    model = AlexNet(in_channels=1, image_size=size, num_classes=2, widths=[2] * 5, hidden_features=[3, 3])
    assert model(torch.zeros(2, 1, size, size)).shape == (2, 2)


@pytest.mark.parametrize(("variant", "smallest"), [("small", 15), ("large", 63)])
def test_the_smallest_image_works_and_one_pixel_less_is_refused_with_that_size(variant, smallest):
    settings = {"in_channels": 1, "num_classes": 2, "variant": variant, "hidden_features": [4, 4]}
    model = AlexNet(image_size=smallest, **settings).eval()
    assert model(torch.zeros(1, 1, smallest, smallest)).shape == (1, 2)
    with pytest.raises(UserError, match=rf"at least {smallest} pixels a side; these have {smallest - 1}\.[^\n]*$"):
        AlexNet(image_size=smallest - 1, **settings)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"variant": "lage"}, "did you mean 'large'"),
        ({"widths": [8, 8]}, r"AlexNet takes 5 model\.widths and 2 model\.hidden_features; there are 2 and 2\.$"),
        ({"hidden_features": [8]}, r"there are 5 and 1\.$"),
        ({"activation": "Relu"}, "did you mean 'ReLU'"),
    ],
)
def test_a_wrong_setting_is_one_line_that_says_what_there_is(wrong, message):
    with pytest.raises(UserError, match=message):
        AlexNet(in_channels=1, image_size=28, num_classes=2, **wrong)


def test_at_first_all_classes_are_about_equally_likely():
    torch.manual_seed(0)
    model = AlexNet(in_channels=1, image_size=28, num_classes=10)
    images = F.interpolate(
        torch.randn(32, 1, 4, 4), 28
    )  # patches, as in pictures; of pixel noise a pool takes the peaks
    loss = F.cross_entropy(model(images), torch.arange(32) % 10)
    assert abs(loss.item() - math.log(10)) < 1
