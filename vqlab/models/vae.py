"""The VAE baseline: encoder and decoder of the VQ-VAE with one Gaussian latent vector per image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vqlab.config import Config
from vqlab.models.autoencoder import build_decoder, build_encoder

# Bounds log s² on both sides, so that s² and 1 / s² stay finite.
_MAX_LOG_VARIANCE = 10.0


@dataclass
class VAEOutput:
    """Result of ``VAE.forward``.

    Attributes:
        reconstruction: images (B, C, H, W), in [0, 1]; with a linear output only in eval mode.
        mean: μ, mean of the posterior of the latent vector, (B, L).
        log_variance: log s², log variance of the posterior, in [−10, 10], (B, L).
    """

    reconstruction: Float[Tensor, "B C H W"]
    mean: Float[Tensor, "B L"]
    log_variance: Float[Tensor, "B L"]


class VAE(nn.Module):
    """A variational autoencoder with posterior N(μ, s²) and prior N(0, I).

    A linear layer maps the encoder's flattened output to μ and log s², another maps the latent vector to the
    decoder's input, so that a sample from N(0, I) gives a whole image. Initial weights depend only on the Config's
    seed, and the global generator keeps its state.

    Source: Kingma and Welling, Auto-Encoding Variational Bayes, 2013.

    Args:
        config: sections ``model``, ``vae`` and ``seed``, ``quantizer.dim`` as the encoder's output channels, and the
            size and channels of an image.

    Attributes:
        encoder: images to (B, 2·L): μ and log s².
        decoder: latent vectors (B, L) to images.
        latent_dim: L.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        dim, latent_dim, (height, width) = config.quantizer.dim, config.vae.latent_dim, config.grid
        channels = config.data.channels
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.encoder = nn.Sequential(
                build_encoder(config.model, dim, channels),
                nn.Flatten(),
                nn.Linear(dim * height * width, 2 * latent_dim),
            )
            self.decoder = nn.Sequential(
                nn.Linear(latent_dim, dim * height * width),
                nn.Unflatten(1, (dim, height, width)),
                build_decoder(config.model, dim, channels),
            )
        self.latent_dim = latent_dim

    def forward(self, images: Float[Tensor, "B C H W"], noise: Float[Tensor, "B L"] | None = None) -> VAEOutput:
        """Reconstruct images from the latent vector μ + s·noise.

        Args:
            images: in [0, 1].
            noise: a sample of N(0, I); None to reconstruct from μ.

        Returns:
            The reconstruction and the posterior.
        """
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        log_variance = log_variance.clamp(-_MAX_LOG_VARIANCE, _MAX_LOG_VARIANCE)
        latent = mean if noise is None else mean + (0.5 * log_variance).exp() * noise
        return VAEOutput(self.decoder(latent), mean, log_variance)

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count C H W"]:
        """Decode latent vectors of N(0, I).

        Args:
            count: how many images.
            generator: source of the latent vectors, on the model's device.

        Returns:
            Images in [0, 1].
        """
        return self.decoder(torch.randn(count, self.latent_dim, generator=generator, device=generator.device))
