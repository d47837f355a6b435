import json
from functools import partial

import pytest
import torch
from torch.nn import functional

from zoo.batches import ImageBatch
from zoo.data.digits import Digits
from zoo.errors import UserError
from zoo.losses.super_resolution import made_large, made_small
from zoo.models.espcn import ESPCN
from zoo.run import configure, run
from zoo.tasks.super_resolution import SuperResolution, ssim

SGD = partial(torch.optim.SGD, lr=0.1)


@pytest.mark.parametrize("model", ["espcn", "srcnn"])
def test_a_few_epochs_beat_bicubic_interpolation(model, tmp_path, no_pictures):
    few = ("trainer.max_epochs=8", "logger=none")
    assert run(configure(f"model={model}", *few, run_dir=tmp_path)) == 0
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["test/psnr"] > found["test/bicubic_psnr"] + 0.5
    assert found["test/ssim"] > found["test/bicubic_ssim"] + 0.01
    data = Digits(normalize=False)
    x = data.part("test")[torch.arange(len(data.part("test")))].image
    error = functional.mse_loss(made_large(made_small(x, 2), 2), x)
    assert found["test/bicubic_psnr"] == pytest.approx(-10 * error.log10().item(), rel=1e-4)


def test_ssim_is_that_of_its_equation():
    said, x = torch.rand(2, 3, 1, 12, 9, generator=torch.Generator().manual_seed(0)).double()

    def mean(images):
        return functional.avg_pool2d(functional.pad(images, (3, 3, 3, 3), mode="reflect"), kernel_size=7, stride=1)

    a, b = mean(said), mean(x)
    variances = mean(said**2) - a**2, mean(x**2) - b**2
    shared = mean(said * x) - a * b
    small, smaller = 0.01**2, 0.03**2  # (K1 L)^2, (K2 L)^2 with L = 1
    index = (2 * a * b + small) * (2 * shared + smaller)
    index = index / ((a**2 + b**2 + small) * (sum(variances) + smaller))
    torch.testing.assert_close(ssim(said, x).double(), index.mean((1, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ssim(x, x), torch.ones(3))


def test_what_is_shown_is_small_bicubic_network_and_original():
    task = SuperResolution(ESPCN(in_channels=1), SGD)
    figure = task.show(ImageBatch(torch.rand(20, 1, 8, 8), torch.zeros(20)))["enlarged"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["original", "network", "bicubic", "small"]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["task.factor=3"], "must be multiples of task.factor=3"),
        (["task.factor=1"], "task.factor=1 must be a whole number from 2 on"),
        (["data.image_size=6"], "of 7 pixels at least"),
        (["data.normalize=true"], "use data.normalize=false"),
        (["model.factor=4"], "use model=espcn or model=srcnn"),
        (["data=iris"], "Data sets that do:"),
        (["task=classification"], "task=classification"),
    ],
)
def test_what_cannot_be_is_one_line(wrong, told, tmp_path):
    with pytest.raises(UserError, match=told) as error:
        run(configure("model=espcn", *wrong, run_dir=tmp_path))
    assert "\n" not in str(error.value)
