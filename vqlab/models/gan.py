"""The GAN baseline for images of 32×32 pixels, with the size of DCGAN."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from vqlab.config import Config, GANConfig
from vqlab.models.joined_batch_norm import JoinedBatchNorm2d
from vqlab.models.prenorm import Scale

# Height and width of the smallest feature map, and the standard deviation of the generator's initial weights.
_SMALLEST_SIZE = 4
_INIT_STD = 0.02
_SLOPE = 0.2


class Generator(nn.Sequential):
    """Noise (B, L) to images (B, C, 32, 32) in [0, 1], where L is ``config.latent_dim``.

    A linear layer to (4·width, 4, 4), then three transposed 4×4 convolutions with stride 2, each after batch
    normalisation and ReLU, and a sigmoid. Initial weights are N(0, 0.02²), initial biases 0.

    Source: Radford et al., Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
    Networks, 2015.

    Args:
        config: dimension of the noise and number of channels.
        image_channels: C, channels of an image; 3 for colour.

    Example:
        >>> Generator(GANConfig(width=4, latent_dim=8))(torch.zeros(2, 8)).shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(self, config: GANConfig, image_channels: int = 3) -> None:
        first = 4 * config.width
        layers: list[nn.Module] = [
            nn.Linear(config.latent_dim, first * _SMALLEST_SIZE**2),
            nn.Unflatten(1, (first, _SMALLEST_SIZE, _SMALLEST_SIZE)),
        ]
        for channels in (first, first // 2):
            layers += [
                JoinedBatchNorm2d(channels), nn.ReLU(),
                nn.ConvTranspose2d(channels, channels // 2, 4, stride=2, padding=1),
            ]  # fmt: skip
        layers += [JoinedBatchNorm2d(config.width), nn.ReLU()]
        super().__init__(
            *layers, nn.ConvTranspose2d(config.width, image_channels, 4, stride=2, padding=1), nn.Sigmoid()
        )
        for layer in self:
            if isinstance(layer, nn.Linear | nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, std=_INIT_STD)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


class Discriminator(nn.Sequential):
    """Images (B, C, 32, 32) in [0, 1] to scores (B,): logits, high for real images.

    ``dcgan``: three 4×4 convolutions with stride 2 and leaky ReLU, then a linear layer (Radford et al., Unsupervised
    Representation Learning with Deep Convolutional Generative Adversarial Networks, 2015). ``sngan``: a 3×3
    convolution with stride 1 before each of them and one after the last (Miyato et al., Spectral Normalization for
    Generative Adversarial Networks, 2018, table 3); a first layer with stride 2 gives gradients that repeat every
    second pixel, which shows as dots in the samples.

    Args:
        config: the layers, the number of channels, and whether the layers have spectral normalisation.
        image_channels: C, channels of an image; 3 for colour.

    Example:
        >>> Discriminator(GANConfig(width=4))(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2])
    """

    def __init__(self, config: GANConfig, image_channels: int = 3) -> None:
        normalise = spectral_norm if config.spectral_norm else nn.Identity()
        fine = config.discriminator == "sngan"
        # Without centred pixels their mean dominates the output of a layer with spectral normalisation.
        layers: list[nn.Module] = [Scale(2, -1)]
        channels = image_channels
        for width in (config.width, 2 * config.width, 4 * config.width):
            if fine:
                layers += [normalise(nn.Conv2d(channels, width, 3, padding=1)), nn.LeakyReLU(_SLOPE)]
                channels = width
            layers += [normalise(nn.Conv2d(channels, width, 4, stride=2, padding=1)), nn.LeakyReLU(_SLOPE)]
            channels = width
        if fine:
            layers += [normalise(nn.Conv2d(channels, 2 * channels, 3, padding=1)), nn.LeakyReLU(_SLOPE)]
            channels *= 2
        super().__init__(*layers, nn.Flatten(), normalise(nn.Linear(channels * _SMALLEST_SIZE**2, 1)), nn.Flatten(0))


class GAN(nn.Module):
    """A generator and a discriminator; initial weights depend only on the Config's seed.

    The global generator of random numbers keeps its state.

    Source: Goodfellow et al., Generative Adversarial Nets, 2014.

    Args:
        config: sections ``gan`` and ``seed``, and ``data.channels``.

    Attributes:
        generator: noise to images.
        discriminator: images to scores.
        latent_dim: dimension of the noise.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.generator = Generator(config.gan, config.data.channels)
            self.discriminator = Discriminator(config.gan, config.data.channels)
        self.latent_dim = config.gan.latent_dim

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count C 32 32"]:
        """Generate images from noise of N(0, I).

        Args:
            count: how many images.
            generator: source of the noise, on the model's device.

        Returns:
            Images in [0, 1].
        """
        return self.generator(torch.randn(count, self.latent_dim, generator=generator, device=generator.device))
