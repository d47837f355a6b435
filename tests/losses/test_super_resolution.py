import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional.image import peak_signal_noise_ratio

from zoo.losses.super_resolution import made_large, made_small, psnr


def rand(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_psnr_is_torchmetrics():
    said, x = rand(3, 1, 8, 8), rand(3, 1, 8, 8).flip(0)
    ours = psnr((said - x).square().mean().item())
    assert ours == pytest.approx(peak_signal_noise_ratio(said, x, data_range=1.0).item(), rel=1e-5)
    assert psnr(0.01) == pytest.approx(20)
    assert psnr(0.0) == math.inf


@pytest.mark.parametrize("factor", [2, 4])
def test_images_are_made_small_as_pillow_does_it(factor):
    image = rand(1, 1, 16, 24)
    theirs = Image.fromarray(image[0, 0].numpy()).resize((24 // factor, 16 // factor), Image.Resampling.BICUBIC)
    expected = torch.tensor(np.asarray(theirs)).clamp(0, 1)
    torch.testing.assert_close(made_small(image, factor)[0, 0], expected, rtol=0, atol=1e-5)


def test_a_smooth_image_comes_back():
    y, x = torch.meshgrid(torch.linspace(0, 3, 32), torch.linspace(0, 3, 32), indexing="ij")
    image = (0.5 + 0.3 * y.sin() * x.cos())[None, None]
    large = made_large(made_small(image, 2), 2)
    assert (large - image)[..., 4:-4, 4:-4].abs().max() < 5e-3
