"""Heat maps and attributions: equal to the equations, where they must be, and gone without a trace."""

import copy
from functools import partial

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.analysis.explain import METHODS, by_name, grad_cam, heat_map, integrated_gradients, saliency
from zoo.batches import ImageBatch
from zoo.errors import UserError
from zoo.models.lenet5 import LeNet5
from zoo.models.mlp import MLP
from zoo.models.perceptron import Perceptron
from zoo.tasks.supervised import Classification


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def small_net(activation: nn.Module | None = None, *, num_classes: int = 3) -> nn.Sequential:
    """(B, 2, 8, 8) -> (B, 3), of float64."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), activation or nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(64, num_classes),
    ).double()  # fmt: skip


def test_grad_cam_is_the_two_equations_by_hand():
    net = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.Flatten(), nn.Linear(8, 2, bias=False))
    net[0].weight.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)  # A^1 = x, A^2 = -x
    net[2].weight.data = torch.tensor([[1.0, 0, 0, 3, 2, 2, 2, 2], [4.0, 4, 4, 4, 0, 4, 0, 0]])
    images = torch.tensor([[1.0, -2.0], [3.0, 4.0]]).expand(2, 1, 2, 2)
    # alpha of class 0: 1 and 2, so relu(x - 2x); of class 1: 4 and 1, so relu(4x - x).
    heat = grad_cam(net, images, torch.tensor([0, 1]))
    assert heat.tolist() == [[[0.0, 2.0], [0.0, 0.0]], [[3.0, 0.0], [9.0, 12.0]]]


def test_grad_cam_before_global_pooling_is_the_class_activation_map():
    net = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    net, x, classes = net.double(), randn(5, 2, 9, 9), torch.tensor([0, 1, 2, 0, 1])
    maps = net[:2](x)  # (5, 4, 4, 4)
    cam = torch.einsum("bkhw,bk->bhw", maps, net[4].weight[classes]).relu() / 16
    expected = F.interpolate(cam[:, None], (9, 9), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(grad_cam(net, x, classes), expected.detach())


def test_saliency_is_the_largest_finite_difference_over_the_channels():
    net, x, classes, step = small_net(), randn(2, 2, 8, 8), torch.tensor([2, 0]), 1e-6
    found = saliency(net, x, classes)
    assert found.shape == (2, 8, 8)
    for b, row, column in [(0, 0, 0), (0, 3, 5), (1, 7, 7), (1, 4, 2)]:
        differences = []
        for channel in range(2):
            nudge = torch.zeros_like(x)
            nudge[b, channel, row, column] = step
            differences.append((net(x + nudge) - net(x - nudge))[b, classes[b]].item() / (2 * step))
        assert found[b, row, column].item() == pytest.approx(max(map(abs, differences)), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("steps", [1, 32])
@pytest.mark.parametrize("activation", [nn.Tanh(), nn.ReLU(), nn.Sigmoid()], ids=lambda module: type(module).__name__)
@pytest.mark.parametrize("with_baseline", [False, True])
def test_integrated_gradients_add_up_to_the_change_of_the_score(activation, steps, with_baseline):
    net, x, classes = small_net(activation), 3 * randn(4, 2, 8, 8), torch.tensor([2, 0, 1, 1])
    baseline = randn(2, 8, 8, seed=1) if with_baseline else None
    parts = integrated_gradients(net, x, classes, baseline=baseline, steps=steps)
    assert parts.shape == x.shape
    change = (net(x) - net(torch.zeros_like(x) if baseline is None else baseline.expand_as(x))).detach()
    change = change.gather(1, classes[:, None])[:, 0]
    gap = (parts.flatten(1).sum(1) - change).abs()
    assert (gap <= 0.05 * change.abs() + 0.001 * parts.abs().flatten(1).sum(1)).all()


def test_integrated_gradients_of_a_linear_model_are_weight_times_difference():
    net, x, baseline = nn.Linear(5, 2).double(), randn(3, 5), randn(5, seed=1)
    found = integrated_gradients(net, x, torch.tensor([0, 1, 1]), baseline=baseline, steps=1)
    torch.testing.assert_close(found, (net.weight[[0, 1, 1]] * (x - baseline)).detach())


class Steps(nn.Module):
    """A score that jumps, with a gradient that is not its own."""

    def forward(self, x: Tensor) -> Tensor:
        x = x + ((x > 0).double() * 10 - x).detach()
        return x.sum(1, keepdim=True)


def test_a_score_that_jumps_is_refused_by_integrated_gradients():
    with pytest.raises(UserError, match="do not add up to the change of the score; take saliency"):
        integrated_gradients(Steps(), torch.ones(2, 3).double(), torch.tensor([1, 1]))


class UpperLeft(nn.Module):
    """A network that sees one quadrant of its images, and biases that would light up the others if they mattered."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.ReLU())
        self.output = nn.Linear(6, 2)

    def forward(self, image: Tensor) -> Tensor:
        quadrant = torch.zeros_like(image)
        quadrant[..., :16, :16] = image[..., :16, :16]
        return self.output(self.features(quadrant).mean((2, 3)))


@pytest.mark.parametrize("method", METHODS)
def test_the_heat_lies_where_the_network_looks(method):
    images = randn(4, 1, 32, 32, dtype=torch.float32)
    _, heat = heat_map(UpperLeft(), images, torch.tensor([0, 1, 0, 1]), method)
    inside = heat[:, :16, :16].abs().sum((1, 2)) / heat.abs().sum((1, 2))
    assert (inside > 0.9).all()


def frozen_net() -> nn.Module:
    """In training mode but for a frozen normalization, with a frozen weight and gradients of an earlier step."""
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 3)
    )
    net(randn(4, 2, 8, 8, dtype=torch.float32)).sum().backward()
    net[1].eval()
    net[0].weight.requires_grad_(False)
    return net


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_explaining_leaves_the_model_and_the_random_numbers_as_they_were(method, inference):
    net = frozen_net()
    before, random = copy.deepcopy(net), torch.get_rng_state()
    gradients = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    with torch.inference_mode(inference):
        images, classes = torch.ones(3, 2, 8, 8), torch.tensor([0, 1, 2])
        heat = by_name(method)(net, images, classes)
    assert not heat.requires_grad
    assert torch.equal(images, torch.ones(3, 2, 8, 8))
    assert all(torch.equal(value, before.state_dict()[name]) for name, value in net.state_dict().items())
    assert [module.training for module in net.modules()] == [module.training for module in before.modules()]
    assert [p.requires_grad for p in net.parameters()] == [p.requires_grad for p in before.parameters()]
    assert all(torch.equal(net.get_parameter(name).grad, gradient) for name, gradient in gradients.items())
    assert not any(module._forward_hooks for module in net.modules())
    assert torch.equal(torch.get_rng_state(), random)


def test_an_error_in_the_model_leaves_its_modes_and_no_hooks():
    net = frozen_net()
    with pytest.raises(RuntimeError):
        grad_cam(net, torch.ones(1, 5, 8, 8), torch.tensor([0]))
    assert net.training
    assert not net[1].training
    assert not any(module._forward_hooks for module in net.modules())


def test_looking_at_a_task_changes_no_bit_of_its_training():
    def trained(*, looks: bool) -> dict[str, Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Dropout(0.2), nn.Flatten(),
            nn.Linear(108, 2),
        )  # fmt: skip
        task = Classification(model, partial(torch.optim.Adam, lr=0.01), num_classes=2)
        optimizer = task.build_optimizer(model.parameters())
        batch = ImageBatch(randn(16, 1, 8, 8, dtype=torch.float32), torch.arange(16) % 2)
        for _ in range(4):
            task.losses(batch)["loss"].backward()
            if looks:  # between backward and step, where a stray gradient would count
                task.eval()
                assert "gradcam" in task.show(batch)
                task.train()
            optimizer.step()
            optimizer.zero_grad()
        return task.state_dict()

    plain, looked_at = trained(looks=False), trained(looks=True)
    assert all(torch.equal(value, looked_at[name]) for name, value in plain.items())


@pytest.mark.parametrize("inference", [False, True])  # the trainer tests in inference mode
def test_a_task_shows_saliency_of_a_network_without_feature_maps(inference):
    task = Classification(
        MLP(in_features=16, out_features=3),
        partial(torch.optim.SGD, lr=0.1),
        num_classes=3,
        class_names=["a", "b", "c"],
    )
    with torch.inference_mode(inference):
        shown = task.eval().show(ImageBatch(torch.rand(20, 1, 4, 4), torch.arange(20) % 3))
    assert "saliency" in shown
    assert len(shown["saliency"].axes[0].texts) == 12


class Counting(nn.Module):
    """Answers that no gradient leads to."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.stack([(image > k).flatten(1).sum(1).float() for k in range(3)], 1)


def test_a_model_without_gradients_is_refused_and_trained_all_the_same():
    images, y = torch.rand(4, 1, 4, 4), torch.tensor([0, 1, 2, 0])
    for method in ("saliency", "integrated_gradients"):
        with pytest.raises(UserError, match="no gradient with respect to its input"):
            by_name(method)(Counting(), images, y)
    task = Classification(Counting(), partial(torch.optim.SGD, lr=0.1), num_classes=3)
    assert "predictions" in task.show(ImageBatch(images, y))


def test_the_maps_that_grad_cam_takes_are_activated_and_not_yet_pooled():
    x, classes = randn(2, 2, 8, 8), torch.tensor([0, 1])
    found = {layer: grad_cam(small_net(), x, classes, layer=layer) for layer in (None, "0", "1", "2")}
    assert torch.equal(found[None], found["1"])
    assert not any(torch.equal(found["1"], found[layer]) for layer in ("0", "2"))


def test_maps_are_those_of_the_layer_though_the_next_one_works_in_place():
    x, classes = randn(2, 2, 8, 8), torch.tensor([0, 1])
    in_place, apart = (small_net(nn.ReLU(inplace=choice)) for choice in (True, False))
    assert torch.equal(grad_cam(in_place, x, classes, layer="0"), grad_cam(apart, x, classes, layer="0"))


def test_a_compiled_model_is_explained_like_a_plain_one():
    net, x, classes = small_net(), randn(2, 2, 8, 8), torch.tensor([0, 1])
    expected = grad_cam(net, x, classes)
    net.compile(backend="eager")
    net(x)
    assert torch.equal(grad_cam(net, x, classes), expected)


def test_a_module_that_is_called_often_is_taken_at_its_last_maps():
    net = LeNet5(in_channels=1, image_size=28, num_classes=10).double()
    x, classes = randn(3, 1, 28, 28), torch.tensor([4, 5, 6])
    found = grad_cam(net, x, classes)
    assert torch.equal(found, grad_cam(net, x, classes, layer="activation"))  # C3's, though F6 is activated later
    maps = net.activation(net.c3(net.s2(net.activation(net.c1(x))))).detach().requires_grad_()  # (3, 16, 10, 10)
    y = net.activation(net.f6(net.activation(net.c5(net.s4(maps).flatten(1)))))
    (gradient,) = torch.autograd.grad(net.output(y).gather(1, classes[:, None]).sum(), maps)
    heat = torch.einsum("bkhw,bk->bhw", maps, gradient.mean((2, 3))).relu()
    expected = F.interpolate(heat[:, None], (28, 28), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(found, expected.detach())


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "layer4"),
        ("mobilenet_v2", "features"),
        ("densenet121", "features"),
        ("squeezenet1_1", "classifier.2"),
    ],
)
def test_the_layer_of_well_known_networks_is_found(name, layer):
    torch.manual_seed(0)
    net = getattr(torchvision.models, name)(num_classes=4)
    x, classes = randn(1, 3, 64, 64, dtype=torch.float32), torch.tensor([1])
    assert torch.equal(grad_cam(net, x, classes), grad_cam(net, x, classes, layer=layer))


def test_a_network_without_feature_maps_is_refused_by_grad_cam_and_given_saliency():
    net, images, classes = MLP(in_features=16, out_features=3), torch.rand(2, 1, 4, 4), torch.tensor([0, 1])
    for explain in (grad_cam, partial(heat_map, method="gradcam")):
        with pytest.raises(UserError, match="MLP has no 2-d convolution; take saliency instead") as error:
            explain(net, images, classes)
        assert "\n" not in str(error.value)
    method, heat = heat_map(net, images, classes)
    assert method == "saliency"
    assert torch.equal(heat, saliency(net, images, classes))
    assert heat_map(small_net(), randn(2, 2, 8, 8), classes)[0] == "gradcam"


@pytest.mark.parametrize(
    ("layer", "said"), [("actvation", "did you mean 'activation'"), ("f6", "gives no feature maps")]
)
def test_a_layer_that_does_not_fit_is_one_line(layer, said):
    net = LeNet5(in_channels=1, image_size=28, num_classes=10)
    with pytest.raises(UserError, match=said):
        grad_cam(net, torch.rand(1, 1, 28, 28), torch.tensor([0]), layer=layer)


def test_what_is_no_image_or_no_method_is_one_line():
    net, classes = MLP(in_features=4, out_features=3), torch.tensor([0])
    with pytest.raises(UserError, match="explains images; for rows of a table take saliency"):
        grad_cam(net, torch.rand(1, 4), classes)
    with pytest.raises(UserError, match="did you mean 'gradcam'"):
        heat_map(net, torch.rand(1, 1, 2, 2), classes, "grad_cam")
    with pytest.raises(UserError, match="images and tables"):
        saliency(net, torch.tensor([[1, 2, 3, 4]]), classes)


def test_threshold_units_are_explained_by_their_net_inputs():
    net = Perceptron(in_features=4, num_classes=3)
    net.units.weight.data = torch.arange(12.0).reshape(3, 4) - 6
    found = saliency(net, torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))
    assert torch.equal(found, net.units.weight[[0, 2]].abs().reshape(2, 2, 2))
    assert saliency(net, torch.rand(2, 4), torch.tensor([0, 2])).shape == (2, 4)


def test_what_speaks_for_one_of_two_classes_speaks_against_the_other():
    net, x = MLP(in_features=4, out_features=1).double(), randn(3, 4)
    against, towards = (integrated_gradients(net, x, torch.full((3,), k)) for k in (0, 1))
    assert torch.equal(against, -towards)
    torch.testing.assert_close(towards.sum(1), (net(x) - net(0 * x)).detach()[:, 0], rtol=0.05, atol=0.01)


def test_equal_to_captum():
    attr = pytest.importorskip("captum.attr", reason="captum is not installed: pip install captum")
    net, x, classes = small_net(nn.ReLU()), randn(3, 2, 8, 8).requires_grad_(), torch.tensor([2, 0, 1])
    theirs = attr.Saliency(net).attribute(x, target=classes).amax(1)
    torch.testing.assert_close(saliency(net, x, classes), theirs)
    for layer in ("0", "1", "2"):
        cam = attr.LayerGradCam(net, net[int(layer)]).attribute(x, target=classes, relu_attributions=True)
        theirs = attr.LayerAttribution.interpolate(cam, (8, 8), interpolate_mode="bilinear")[:, 0].detach()
        torch.testing.assert_close(grad_cam(net, x, classes, layer=layer), theirs)
    baseline = randn(1, 2, 8, 8, seed=1)
    options = {"target": classes, "n_steps": 256, "method": "riemann_middle"}
    theirs = attr.IntegratedGradients(net).attribute(x, baseline, **options)
    torch.testing.assert_close(integrated_gradients(net, x, classes, baseline=baseline, steps=256), theirs)
