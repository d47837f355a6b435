import pytest
import torch
from torch import nn

from zoo.errors import UserError
from zoo.models.cnn1d import CNN1d


def test_has_the_5210_parameters_of_the_published_net():
    assert sum(p.numel() for p in CNN1d(length=40, num_classes=10).parameters()) == 5210


@pytest.mark.parametrize("length", [11, 40, 41])
def test_equals_the_same_layers_in_torch_forward_and_backward(length):
    model = CNN1d(length=length, num_classes=3).double()
    left = length
    for kernel in (5, 3, 3):
        left = (left + 2 - kernel) // 2 + 1
    twin = nn.Sequential(
        nn.Unflatten(1, (1, length)), nn.Conv1d(1, 25, 5, stride=2, padding=1), nn.ReLU(),
        nn.Conv1d(25, 25, 3, stride=2, padding=1), nn.ReLU(), nn.Conv1d(25, 25, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(25 * left, 3),
    ).double()  # fmt: skip
    twin.load_state_dict(dict(zip(twin.state_dict(), model.state_dict().values(), strict=True)))
    x = torch.randn(4, length, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    outputs = model(x), twin(x)
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-12)
    for output in outputs:
        output.square().sum().backward()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-11)


def test_a_moved_series_moves_the_maps_of_the_first_layers():
    model = CNN1d(length=40, num_classes=10)
    x = torch.zeros(1, 1, 40)
    x[..., 10:14] = 1
    moved = x.roll(4, -1)
    with torch.no_grad():
        maps = model.blocks[:2](x), model.blocks[:2](moved)
    torch.testing.assert_close(maps[0][..., 1:7], maps[1][..., 2:8])


@pytest.mark.parametrize("padding", ["same", "valid", 2])
def test_any_padding_fits_its_dense_layer(padding):
    assert CNN1d(length=40, num_classes=4, padding=padding)(torch.zeros(3, 40)).shape == (3, 4)


def test_a_series_that_is_too_short_is_refused_by_the_name_of_the_layer():
    with pytest.raises(UserError, match=r"blocks\.0\.conv reaches over 5 values and gets 4 with its padding"):
        CNN1d(length=2, num_classes=2)


def test_as_many_kernels_as_channels_are_asked_for():
    with pytest.raises(UserError, match=r"has 2 values and model\.channels 3"):
        CNN1d(length=40, num_classes=2, kernel_size=[3, 3])
