import os
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from zoo.data.images import ImagePreprocessing
from zoo.errors import UserError
from zoo.models.mobilenet_v2 import STAGES, InvertedResidual, MobileNetV2, rounded
from zoo.running.loading import load_pretrained


@pytest.mark.parametrize(("width", "size"), [(1.0, 40), (0.35, 33)])
def test_equals_torchvisions_forward_and_backward(width, size, same_function):
    torch.manual_seed(0)
    model = MobileNetV2(in_channels=3, num_classes=3, width_multiplier=width)
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    same_function(model, torchvision.models.mobilenet_v2(num_classes=3, width_mult=width), images)


@pytest.mark.parametrize("width", [0.35, 0.5, 0.75, 1.0, 1.3, 1.4])
def test_state_dict_has_torchvisions_names_and_sizes(width):
    with torch.device("meta"):
        ours = MobileNetV2(in_channels=3, num_classes=1000, width_multiplier=width)
        theirs = torchvision.models.mobilenet_v2(width_mult=width)
    named = [[(name, value.shape) for name, value in model.state_dict().items()] for model in (ours, theirs)]
    assert named[0] == named[1]


def test_has_as_many_parameters_as_published():
    with torch.device("meta"):
        model = MobileNetV2(in_channels=3, num_classes=1000)
    assert sum(p.numel() for p in model.parameters()) == 3_504_872


def test_maps_have_the_sizes_of_table_2():
    with torch.device("meta"):
        model, sizes = MobileNetV2(in_channels=3, num_classes=2).eval(), []
        for block in model.features:
            block.register_forward_hook(lambda m, i, o: sizes.append((o.shape[1], o.shape[2])))
        model(torch.zeros(1, 3, 224, 224))
    distinct = [size for i, size in enumerate(sizes) if i == 0 or size != sizes[i - 1]]
    assert len(sizes) == 1 + sum(number for _, _, number, _ in STAGES) + 1
    assert distinct == [(32, 112), (16, 112), (24, 56), (32, 28), (64, 14), (96, 14), (160, 7), (320, 7), (1280, 7)]


@pytest.mark.parametrize("output_stride", [32, 16, 8])
def test_output_stride_is_the_number_of_pixels_a_place_stands_for(output_stride):
    with torch.device("meta"):
        model = MobileNetV2(in_channels=1, num_classes=2, output_stride=output_stride).eval()
        assert model.features(torch.zeros(1, 1, 64, 64)).shape[2:] == (64 // output_stride,) * 2


def test_blocks_add_their_input_where_the_sizes_agree_and_only_there():
    for stride, after, is_residual in ((1, 8, True), (2, 8, False), (1, 16, False)):
        block, x = InvertedResidual(8, after, expansion=6, stride=stride).eval(), torch.rand(2, 8, 4, 4)
        nn.init.zeros_(block.conv[-1].weight)
        assert torch.equal(block(x), x if is_residual else torch.zeros(2, after, 4 // stride, 4 // stride))


def test_the_bottleneck_is_linear():
    block = InvertedResidual(4, 4, expansion=6, stride=1)
    assert (block.conv(torch.randn(8, 4, 6, 6)) < 0).any()
    assert isinstance(block.conv[-1], nn.BatchNorm2d)


@pytest.mark.parametrize(("channels", "maps"), [(3.0, 8), (11.2, 16), (12.0, 16), (33.6, 32), (18.0, 24), (96.0, 96)])
def test_numbers_of_maps_are_multiples_of_8_and_lose_a_tenth_at_most(channels, maps):
    assert rounded(channels) == maps


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (33, 17)])
def test_images_of_any_size_are_taken(size):
    with torch.no_grad():
        model = MobileNetV2(in_channels=2, num_classes=4, width_multiplier=0.35).eval()
        assert model(torch.zeros(3, 2, *size)).shape == (3, 4)


def test_an_unknown_output_stride_is_answered_with_those_there_are():
    with pytest.raises(UserError, match=r"no output stride 4[^\n]*There is: 16, 32, 8[^\n]*$"):
        MobileNetV2(in_channels=1, num_classes=2, output_stride=4)


def test_published_weights_load_whole_and_answer_photos_as_torchvisions_net_does():
    if "ZOO_DATA" not in os.environ:
        pytest.skip("needs published weights and photos; set ZOO_DATA to a folder that has them")
    folder = Path(os.environ["ZOO_DATA"])
    weights = folder / "weights" / "imagenet" / "mobilenet_v2-b0353104.pth"
    if not weights.is_file():
        pytest.skip(f"needs {weights}")
    ours, theirs = MobileNetV2(in_channels=3, num_classes=1000), torchvision.models.mobilenet_v2()
    report = load_pretrained(ours, weights)
    assert (len(report.loaded), report.adapted, report.new, report.skipped) == (len(ours.state_dict()), [], [], [])
    theirs.load_state_dict(torch.load(weights, weights_only=True))

    photos = sorted((folder / "imagenet-50").glob("*.JPEG"))[::8]
    prepare = ImagePreprocessing(3, 224, 224, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    images = prepare(torch.stack([prepare.open(path) for path in photos]))  # (7, 3, 224, 224)
    with torch.no_grad():
        answers = ours.eval()(images)
        torch.testing.assert_close(answers, theirs.eval()(images), rtol=1e-4, atol=1e-4)
    classes = torch.tensor([int(path.name[:3]) for path in photos])
    assert (answers.topk(5).indices == classes[:, None]).any(1).sum() >= len(photos) - 1
