"""The GAN baseline for 32-pixel images, of DCGAN's size."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from vqlab.config import Config, GANConfig

_START = 4
_SPREAD = 0.02


class Generator(nn.Sequential):
    """Noise (B, L) to images (B, 3, 32, 32) in [0, 1]: 4, 8, 16, 32 pixels, as DCGAN (Radford et al., 2015) starts."""

    def __init__(self, config: GANConfig) -> None:
        wide = 4 * config.width
        layers: list[nn.Module] = [
            nn.Linear(config.latent_dim, wide * _START**2),
            nn.Unflatten(1, (wide, _START, _START)),
        ]
        for channels in (wide, wide // 2):
            layers += [
                nn.BatchNorm2d(channels), nn.ReLU(),
                nn.ConvTranspose2d(channels, channels // 2, 4, stride=2, padding=1),
            ]  # fmt: skip
        layers += [nn.BatchNorm2d(config.width), nn.ReLU()]
        super().__init__(*layers, nn.ConvTranspose2d(config.width, 3, 4, stride=2, padding=1), nn.Sigmoid())
        for layer in self:
            if isinstance(layer, nn.Linear | nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, std=_SPREAD)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


class CentrePixels(nn.Module):
    """[0, 1] to [-1, 1]: what has a mean far from 0 takes most of a normalised layer's reach."""

    def forward(self, images: Float[Tensor, "B 3 32 32"]) -> Float[Tensor, "B 3 32 32"]:
        """2 images − 1."""
        return 2 * images - 1


class Discriminator(nn.Sequential):
    """Images (B, 3, 32, 32) to scores (B,); spectral normalisation: Miyato et al., 2018."""

    def __init__(self, config: GANConfig) -> None:
        normal = spectral_norm if config.spectral_norm else nn.Identity()
        layers: list[nn.Module] = [CentrePixels()]
        channels = 3
        for width in (config.width, 2 * config.width, 4 * config.width):
            layers += [normal(nn.Conv2d(channels, width, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
            channels = width
        super().__init__(*layers, nn.Flatten(), normal(nn.Linear(channels * _START**2, 1)), nn.Flatten(0))


class GAN(nn.Module):
    """Generator and discriminator; weights depend on the Config's seed alone."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.generator = Generator(config.gan)
            self.discriminator = Discriminator(config.gan)
        self.latent_dim = config.gan.latent_dim

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count 3 32 32"]:
        """Images in [0, 1] from N(0, I)."""
        return self.generator(torch.randn(count, self.latent_dim, generator=generator, device=generator.device))
