"""Super-resolution: images are made small, and a network is to make them large again.

    loss = mean squared error of a pixel between model(made_small(x)) and x          (`zoo.losses.super_resolution`)

What is reported, of validation and test, of the network and of bicubic interpolation (`bicubic_`), which costs nothing:
    psnr    of the mean squared error over all pixels of the part, in dB; what is said is cut to [0, 1] first
    ssim    Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity",
            2004, in even windows of 7x7 pixels, reflected at borders; the mean over images. Published numbers mostly
            have Gaussian windows of 11x11, and leave a border out of both.

Axes: B batch, C channels, H height, W width
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.functional.image import structural_similarity_index_measure

from zoo.errors import UserError
from zoo.losses.super_resolution import made_large, made_small, psnr
from zoo.pictures.codes import reconstructions
from zoo.tasks.base import Task

WINDOW = 7  # pixels a side, of SSIM
SHOWN = 8  # images


def ssim(said: Tensor, x: Tensor) -> Tensor:
    """Both (B, C, H, W) in [0, 1] -> (B,)."""
    found = structural_similarity_index_measure(
        said.float(), x.float(), gaussian_kernel=False, kernel_size=WINDOW, data_range=1.0, reduction="none"
    )
    assert isinstance(found, Tensor)
    return found.reshape(-1)


class SuperResolution(Task):
    """The image is the target, and itself made small the input; labels are not looked at.

    Args:
        model: (B, C, H / factor, W / factor) -> (B, C, H, W).
        optimizer, scheduler: see `Task`.
        factor: how many times smaller, on each side.
    """

    batches = ("ImageBatch",)
    monitor = "val/psnr"
    mode = "max"

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[..., Any],
        scheduler: Callable[..., Any] | None = None,
        *,
        factor: int = 2,
    ) -> None:
        super().__init__(model, optimizer, scheduler)
        if factor < 2:
            raise UserError(f"task.factor={factor} must be a whole number from 2 on.")
        self.factor = factor

    def check(self, batch: Any) -> None:
        super().check(batch)
        x = batch.inputs[0]
        height, width = x.shape[2:]
        if height % self.factor or width % self.factor or min(height, width) < WINDOW:
            raise UserError(
                f"Images of {height}x{width} pixels must be multiples of task.factor={self.factor} and of {WINDOW} "
                "pixels at least; use another factor or data.image_size."
            )
        if x.min() < 0 or x.max() > 1:
            raise UserError("Super-resolution takes pixels from 0 to 1, and has others here; use data.normalize=false.")
        try:
            with torch.no_grad():
                shape = getattr(self.model(made_small(x, self.factor)), "shape", ())
        except (RuntimeError, ValueError):  # layers of the size of a whole image
            shape = ()
        if shape != x.shape:
            raise UserError(
                f"{type(self.model).__name__} makes no {tuple(x.shape[1:])} of an image of that size made small; use "
                "model=espcn or model=srcnn with model.factor=${task.factor}."
            )

    def losses(self, batch: Any) -> dict[str, Tensor]:
        x = batch.inputs[0]
        return {"loss": functional.mse_loss(self.model(made_small(x, self.factor)), x)}

    def evaluate(self, stage: str, batch: Any) -> None:
        x = batch.inputs[0]
        small = made_small(x, self.factor)
        said, found = self.model(small), {}
        found["loss"] = functional.mse_loss(said, x)
        for name, answer in (("", said.clamp(0, 1)), ("bicubic_", made_large(small, self.factor))):
            found[f"{name}mse"] = functional.mse_loss(answer, x)
            found[f"{name}ssim"] = ssim(answer, x).mean()
        self.means[stage].add(found, len(x))

    def derived(self, means: dict[str, float]) -> dict[str, float]:
        return {name.replace("mse", "psnr"): psnr(value) for name, value in means.items() if name.endswith("mse")}

    @torch.no_grad()
    def show(self, batch: Any) -> dict[str, Any]:
        """A few images: small, interpolated, by the network, as they were."""
        x = batch.inputs[0][:SHOWN]
        small = made_small(x, self.factor)
        rows = {
            "original": x,
            "network": self.model(small),
            "bicubic": made_large(small, self.factor),
            "small": functional.interpolate(small, scale_factor=self.factor, mode="nearest"),
        }
        return {"enlarged": reconstructions(rows)}
