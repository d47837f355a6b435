"""Deep convolutional GAN: a generator of transposed convolutions against a discriminator of strided ones.

Radford, Metz, Chintala, "Unsupervised representation learning with deep convolutional generative adversarial networks",
2016 (arXiv 1511.06434), section 3 and figure 1:

    noise -> dense -> maps of a few pixels -> each transposed convolution doubles the side and halves the maps -> image
    image -> each strided convolution halves the side and doubles the maps -> dense -> logit
    batch norm in both, but neither before nor after an image; ReLU in the generator, leaky ReLU in the discriminator

Departures from the paper
1. Kernels are 4 x 4, as in the authors' later code, not 5 x 5: stride 2 divides them, so all pixels get equal terms.
2. Any image whose sides can be halved with 4 pixels left: 64 x 64 goes down four times to 4 x 4, as in the paper, 28 x
   28 twice to 7 x 7, 8 x 8 once to 4 x 4.
3. Images are in [0, 1] here as everywhere in the zoo. The tanh of the paper and its range [-1, 1] are inside.
4. `discriminator_norm` may be layer (as Gulrajani et al. 2017, arXiv 1704.00028, want for their penalty, which is each
   sample's own), spectral (Miyato, Kataoka, Koyama, Yoshida 2018, arXiv 1802.05957: each weight divided by its largest
   singular value) or none in place of batch.
5. `num_classes` gives both nets the label (Mirza and Osindero 2014).

Batch norm takes the statistics of the samples that a process has: on several processes it is another run than on one.

Axes: B batch, Z latent, C channels, H height, W width, D maps, K classes
Trained by: adversarial    Data: any images
Equal to: the same nets in plain torch.nn (tests)
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from zoo.errors import UserError, suggest
from zoo.layers.adversaries import Adversaries, check_sizes, with_label

NORMS = ("batch", "layer", "spectral", "none")
SMALLEST = 4  # pixels of a side where halving ends


def halvings(height: int, width: int) -> int:
    """How often both sides can be halved with at least 4 pixels left. Raises UserError where it is not once."""
    number = 0
    while height % 2 == width % 2 == 0 and min(height, width) >= 2 * SMALLEST:
        height, width, number = height // 2, width // 2, number + 1
    if number == 0:
        raise UserError(
            f"DCGAN halves the sides of an image, and {height} x {width} pixels cannot be halved with {SMALLEST} left; "
            "use another data.image_size, for instance 8, 28, 32 or 64, or model=gan."
        )
    return number


def reset_parameters(layers: nn.Module) -> None:
    # Section 4 of the paper: all weights normal with deviation 0.02. Scales of batch norm vary as much around 1.
    for layer in layers.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(layer.weight, 0.0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)


class Generator(nn.Module):
    """From noise to images in [0, 1].

    Args:
        latent_size: Z.
        image_shape: (C, H, W).
        channels: D before the image; twice as many for each step further from it.
        num_classes: K, or None.
    """

    def __init__(self, *, latent_size: int, image_shape: Sequence[int], channels: int, num_classes: int | None) -> None:
        super().__init__()
        colours, height, width = image_shape
        steps = halvings(height, width)
        maps = channels * 2 ** (steps - 1)
        self.num_classes, self.first = num_classes, (maps, height // 2**steps, width // 2**steps)
        self.project = nn.Linear(latent_size + (num_classes or 0), maps * self.first[1] * self.first[2], bias=False)
        layers: list[nn.Module] = [nn.BatchNorm2d(maps), nn.ReLU()]
        for _ in range(steps - 1):
            layers += [nn.ConvTranspose2d(maps, maps // 2, 4, 2, 1, bias=False), nn.BatchNorm2d(maps // 2), nn.ReLU()]
            maps //= 2
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(maps, colours, 4, 2, 1), nn.Tanh())
        reset_parameters(self)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """(B, Z) and (B,) int64 -> (B, C, H, W)."""
        x = self.project(with_label(z, label, self.num_classes))  # (B, D h w)
        x = self.layers(x.unflatten(1, self.first))  # (B, C, H, W) in [-1, 1]
        return (x + 1) / 2


class Discriminator(nn.Module):
    """From images in [0, 1] to logits.

    Args:
        image_shape: (C, H, W).
        channels: D after the first convolution; twice as many after each that follows.
        norm: batch, layer, spectral or none.
        num_classes: K, or None.
    """

    def __init__(self, *, image_shape: Sequence[int], channels: int, norm: str, num_classes: int | None) -> None:
        super().__init__()
        if norm not in NORMS:
            raise UserError(f"There is no model.discriminator_norm={norm}{suggest(norm, NORMS)}")
        colours, height, width = image_shape
        self.num_classes, steps, before = num_classes, halvings(height, width), colours + (num_classes or 0)
        layers: list[nn.Module] = []
        for step in range(steps):
            maps = channels * 2**step
            normed = step > 0 and norm in ("batch", "layer")
            layers.append(nn.Conv2d(before, maps, 4, 2, 1, bias=not normed))
            if normed:
                layers.append(nn.BatchNorm2d(maps) if norm == "batch" else nn.GroupNorm(1, maps))
            layers.append(nn.LeakyReLU(0.2))
            before = maps
        values = before * (height // 2**steps) * (width // 2**steps)
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(values, 1))
        reset_parameters(self)
        if norm == "spectral":
            for layer in self.layers:
                if isinstance(layer, (nn.Conv2d, nn.Linear)):
                    spectral_norm(layer)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """(B, C, H, W) and (B,) int64 -> logits (B,)."""
        x = with_label(2 * x - 1, label, self.num_classes)  # (B, C + K, H, W)
        return self.layers(x).squeeze(1)  # (B,)


class DCGAN(Adversaries):
    """A convolutional generator and a convolutional discriminator; see `Adversaries` for how they are used.

    Args:
        image_shape: (C, H, W) of the images.
        latent_size: Z.
        prior: of the noise, normal or uniform.
        num_classes: K of a conditional pair; None: labels are left aside.
        generator_channels: maps before the image; twice as many for each step further from it (the paper: 128).
        discriminator_channels: maps after the first convolution (the paper: 128).
        discriminator_norm: batch, layer, spectral or none.
    """

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        latent_size: int = 100,
        prior: str = "uniform",
        num_classes: int | None = None,
        generator_channels: int = 128,
        discriminator_channels: int = 128,
        discriminator_norm: str = "batch",
    ) -> None:
        check_sizes([latent_size], "latent_size")
        generator = Generator(
            latent_size=latent_size, image_shape=image_shape, channels=generator_channels, num_classes=num_classes
        )
        discriminator = Discriminator(
            image_shape=image_shape, channels=discriminator_channels, norm=discriminator_norm, num_classes=num_classes
        )
        super().__init__(generator, discriminator, latent_size=latent_size, prior=prior, num_classes=num_classes)
