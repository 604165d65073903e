"""The VAE baseline: the VQ-VAE's encoder and decoder around one Gaussian latent vector."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vqlab.config import Config
from vqlab.models.blocks import Decoder, Encoder

_LOG_VARIANCE = 10.0


@dataclass
class VAEOutput:
    """reconstruction (B, 3, H, W) in [0, 1]; mean and log_variance (B, L) of the latent's posterior."""

    reconstruction: Tensor
    mean: Tensor
    log_variance: Tensor


class VAE(nn.Module):
    """Kingma and Welling, Auto-Encoding Variational Bayes, 2013.

    The grid that the encoder gives is flattened and taken to one latent vector by a linear layer, and back, so
    that a draw from N(0, I) is a whole image. Weights depend on the Config's seed alone.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        dim, latent, (height, width) = config.quantizer.dim, config.vae.latent_dim, config.grid
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.encoder = nn.Sequential(
                Encoder(config.model, dim), nn.Flatten(), nn.Linear(dim * height * width, 2 * latent)
            )
            self.decoder = nn.Sequential(
                nn.Linear(latent, dim * height * width),
                nn.Unflatten(1, (dim, height, width)),
                Decoder(config.model, dim),
            )
        self.latent_dim = latent

    def forward(self, images: Float[Tensor, "B 3 H W"], noise: Float[Tensor, "B L"] | None = None) -> VAEOutput:
        """Reconstruct images in [0, 1] from μ + s·noise; from the mean μ where there is no noise."""
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        log_variance = log_variance.clamp(-_LOG_VARIANCE, _LOG_VARIANCE)
        latent = mean if noise is None else mean + (0.5 * log_variance).exp() * noise
        return VAEOutput(self.decoder(latent), mean, log_variance)

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count 3 H W"]:
        """Images in [0, 1] decoded from N(0, I)."""
        return self.decoder(torch.randn(count, self.latent_dim, generator=generator, device=generator.device))
