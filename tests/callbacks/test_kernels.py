import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from zoo.build import build
from zoo.callbacks.kernels import feature_maps, first_kernels
from zoo.models.captioner import Captioner
from zoo.models.lenet5 import LeNet5
from zoo.models.mlp import MLP
from zoo.run import configure

SHORT = ("trainer.max_epochs=2", "data.batch_size=500", "trainer.num_threads=1")


def images(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"images": 0})
    accumulator.Reload()
    tags = accumulator.Tags()["images"]
    return {tag: [event.step for event in accumulator.Images(tag)] for tag in tags}


def drawn(folder, *overrides):
    run = build(configure(*SHORT, *overrides, run_dir=folder))
    run.fit()
    run.close({})
    return images(folder)


def test_kernels_are_drawn_before_training_and_maps_after_epochs(tmp_path):
    found = drawn(tmp_path, "model=lenet5", "data.image_size=16")
    assert found["samples/kernels"] == [0, 3, 6]  # 3 iterations an epoch
    assert found["samples/feature_maps"] == [3, 6]


def test_a_dense_network_has_kernels_and_no_maps_and_a_panel_that_is_off_draws_nothing(tmp_path):
    found = drawn(tmp_path, "callbacks.gradient_flow=null")
    assert "samples/kernels" in found
    assert not {"samples/feature_maps", "samples/gradient_flow"} & set(found)


def test_a_network_on_a_table_has_neither(tmp_path):
    found = drawn(tmp_path, "data=diabetes")
    assert not {"samples/kernels", "samples/feature_maps"} & set(found)


def test_a_unit_of_a_dense_first_layer_is_an_image_of_its_weights():
    model = MLP(in_features=12, out_features=2, hidden_features=[5])
    kernels = first_kernels(model, (3, 2, 2))
    assert kernels.shape == (5, 3, 2, 2)
    assert torch.equal(kernels.flatten(1), model.hidden[0].linear.weight)
    assert first_kernels(model, (12,)) is None  # no image


def test_kernels_of_convolutions_are_shown_as_they_are():
    conv = nn.Conv2d(3, 4, 5)
    assert torch.equal(first_kernels(nn.Sequential(conv, nn.Flatten(), nn.Linear(4, 1)), (3, 5, 5)), conv.weight)
    assert first_kernels(nn.Conv1d(2, 4, 7), (2, 40)).shape == (4, 1, 2, 7)  # a row for each channel
    assert first_kernels(nn.ConvTranspose2d(3, 4, 5), (3, 5, 5)) is None
    assert first_kernels(nn.ReLU(), (3, 5, 5)) is None
    assert first_kernels(nn.Sequential(nn.Embedding(9, 4), nn.Conv1d(4, 2, 3)), (7,)) is None  # axes of a vector


def test_maps_are_those_after_the_activation():
    model = LeNet5(in_channels=1, image_size=28, num_classes=10, activation="ReLU")
    image = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    maps = feature_maps(model, (image,))
    assert list(maps) == ["c1", "c3"]
    torch.testing.assert_close(maps["c1"], model.c1(image[:1]).relu()[0])
    assert maps["c3"].shape == (16, 10, 10)


def test_maps_without_an_activation_are_those_of_the_convolution():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 2), nn.ReLU())
    image = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    maps = feature_maps(model, (image,))
    assert list(maps) == ["0"]
    torch.testing.assert_close(maps["0"], model[0](image)[0])


def test_maps_of_a_model_that_is_given_no_mask():
    """As a captioner, whose images have none."""
    model = Captioner(image_shape=[3, 8, 8], tgt_vocab_size=7, channels=[4, 5], hidden_size=6).eval()
    image = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    maps = feature_maps(model, (image, None, torch.tensor([[2, 4], [2, 5]])))
    assert {name: tuple(x.shape) for name, x in maps.items()} == {"encoder.0": (4, 8, 8), "encoder.3": (5, 4, 4)}
    torch.testing.assert_close(maps["encoder.0"], model.encoder[0](image[:1]).relu()[0])
