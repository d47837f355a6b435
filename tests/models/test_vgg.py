import math

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import vgg

from zoo.errors import UserError
from zoo.models.vgg import VGG


def torchvisions(depth, batch_norm, **settings):
    return getattr(torchvision.models, f"vgg{depth}{'_bn' * batch_norm}")(**settings)


def narrow(depth, batch_norm):
    """torchvision's VGG with an eighth of the maps, and 16 units in place of 4096."""
    layout = [entry if entry == "M" else entry // 8 for entry in vgg.cfgs[{11: "A", 13: "B", 16: "D"}[depth]]]
    with torch.device("meta"):
        model = vgg.VGG(nn.Identity(), num_classes=3)
    model.features = vgg.make_layers(layout, batch_norm)
    model.classifier = nn.Sequential(
        nn.Linear(64 * 7 * 7, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 16), nn.ReLU(), nn.Dropout(),
        nn.Linear(16, 3),
    )  # fmt: skip
    return model


@pytest.mark.parametrize("depth", [11, 13, 16])
@pytest.mark.parametrize(("batch_norm", "size"), [(False, 32), (True, 65)])
def test_equals_torchvisions_forward_and_backward(depth, batch_norm, size, same_function):
    torch.manual_seed(0)
    model = VGG(in_channels=3, image_size=size, num_classes=3, depth=depth, batch_norm=batch_norm,
                widths=(8, 16, 32, 64, 64), hidden_features=(16, 16))  # fmt: skip
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    same_function(model, narrow(depth, batch_norm), images)


@pytest.mark.parametrize("depth", [11, 13, 16, 19])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_state_dict_has_torchvisions_names_and_sizes(depth, batch_norm):
    with torch.device("meta"):
        ours = VGG(in_channels=3, image_size=224, num_classes=1000, depth=depth, batch_norm=batch_norm)
        theirs = torchvisions(depth, batch_norm)
    named = [[(name, value.shape) for name, value in model.state_dict().items()] for model in (ours, theirs)]
    assert named[0] == named[1]


@pytest.mark.parametrize(
    ("depth", "published"), [(11, 132_863_336), (13, 133_047_848), (16, 138_357_544), (19, 143_667_240)]
)
def test_has_as_many_parameters_as_published(depth, published):
    with torch.device("meta"):
        model = VGG(in_channels=3, image_size=224, num_classes=1000, depth=depth, batch_norm=False)
    assert sum(p.numel() for p in model.parameters()) == published


@pytest.mark.parametrize("depth", [6, 8, 11, 13, 16, 19])
def test_depth_counts_the_layers_with_weights(depth):
    with torch.device("meta"):
        model = VGG(in_channels=1, image_size=32, num_classes=2, depth=depth)
    assert sum(isinstance(module, (nn.Conv2d, nn.Linear)) for module in model.modules()) == depth


@pytest.mark.parametrize(
    ("depth", "size", "maps"),
    [(6, 28, [(32, 14), (64, 7), (128, 3)]), (8, 32, [(32, 16), (64, 8), (128, 4)]),
     (11, 64, [(64, 32), (128, 16), (256, 8), (512, 4), (512, 2)])],
)  # fmt: skip
def test_every_stage_halves_the_image(depth, size, maps):
    model, shapes = (
        VGG(in_channels=1, image_size=size, num_classes=2, depth=depth, hidden_features=[8] * (1 + (depth > 8))),
        [],
    )
    for module in model.features:
        if isinstance(module, nn.MaxPool2d):
            module.register_forward_hook(lambda m, i, o: shapes.append((o.shape[1], o.shape[2])))
    assert model(torch.zeros(2, 1, size, size)).shape == (2, 2)
    assert shapes == maps


def test_at_224_pixels_nothing_is_averaged():
    """The seven places of the first dense layer are then those of the last maps, as in the paper."""
    maps = torch.rand(1, 512, 224 // 32, 224 // 32)
    with torch.device("meta"):
        pool = VGG(in_channels=3, image_size=224, num_classes=2, depth=11).avgpool
    assert torch.equal(pool(maps), maps)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_normalization_stands_before_each_nonlinearity_of_a_stage(batch_norm):
    kinds = [
        type(module) for module in VGG(in_channels=1, image_size=28, num_classes=2, batch_norm=batch_norm).features
    ]
    after = [kinds[i + 1] for i, kind in enumerate(kinds) if kind is nn.Conv2d]
    assert set(after) == {nn.BatchNorm2d if batch_norm else nn.ReLU}
    assert kinds.count(nn.BatchNorm2d) == 4 * batch_norm


def test_without_normalization_the_signal_reaches_the_end_of_16_layers():
    torch.manual_seed(0)
    model = VGG(in_channels=3, image_size=32, num_classes=2, depth=16, batch_norm=False, hidden_features=(64, 64))
    with torch.no_grad():
        maps = model.features(torch.randn(4, 3, 32, 32))
    assert 0.1 < maps.std() < 10


@pytest.mark.parametrize(("depth", "smallest"), [(6, 8), (8, 8), (11, 32)])
def test_the_smallest_image_works_and_one_pixel_less_is_refused_with_that_size(depth, smallest):
    hidden = [4] if depth < 11 else [4, 4]
    settings = {"in_channels": 1, "num_classes": 2, "depth": depth, "hidden_features": hidden}
    model = VGG(image_size=smallest, **settings).eval()
    assert model(torch.zeros(1, 1, smallest, smallest)).shape == (1, 2)
    with pytest.raises(UserError, match=rf"at least {smallest} pixels a side; these have {smallest - 1}\.[^\n]*$"):
        VGG(image_size=smallest - 1, **settings)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depth": 12}, r"no VGG of depth 12[^\n]*11, 13, 16[^\n]*$"),
        ({"widths": [8, 8]}, r"VGG-6 takes 3 model\.widths and 1 model\.hidden_features; there are 2 and 1\.$"),
        ({"hidden_features": [8, 8]}, r"there are 3 and 2\.$"),
        ({"activation": "Relu"}, "did you mean 'ReLU'"),
    ],
)
def test_a_wrong_setting_is_one_line_that_says_what_there_is(wrong, message):
    with pytest.raises(UserError, match=message):
        VGG(in_channels=1, image_size=28, num_classes=2, **wrong)


def test_at_first_all_classes_are_about_equally_likely():
    torch.manual_seed(0)
    model = VGG(in_channels=1, image_size=28, num_classes=10)
    loss = nn.functional.cross_entropy(model(torch.randn(32, 1, 28, 28)), torch.arange(32) % 10)
    assert abs(loss.item() - math.log(10)) < 0.5
