"""The VQ-VAE, the baselines, the priors over its codes, and the feature classifier."""

from __future__ import annotations

from torch import nn

from vqlab.config import Config
from vqlab.models.classifier import Classifier
from vqlab.models.diffusion import LatentDiffusion
from vqlab.models.gan import GAN
from vqlab.models.sampling import sample_codes
from vqlab.models.transformer import CodeTransformer
from vqlab.models.vae import VAE, VAEOutput
from vqlab.models.vqvae import VQVAE, VQVAEOutput

__all__ = [
    "GAN",
    "VAE",
    "VQVAE",
    "Classifier",
    "CodeTransformer",
    "LatentDiffusion",
    "VAEOutput",
    "VQVAEOutput",
    "build_model",
    "sample_codes",
]


def build_model(config: Config, classes: int) -> nn.Module:
    """Build the model of ``config.kind`` with initial weights, which depend only on the Config.

    Args:
        config: the Config of a Run.
        classes: number of classes of the data, at least 0; only priors use it.

    Returns:
        A VQVAE, VAE, GAN, CodeTransformer or LatentDiffusion in training mode on the CPU.

    Example:
        >>> type(build_model(Config(), classes=10)).__name__
        'VQVAE'
    """
    if config.kind == "vqvae":
        return VQVAE(config.model, config.quantizer, config.seed, config.data.channels)
    if config.kind == "transformer":
        return CodeTransformer(config, classes)
    if config.kind == "diffusion":
        return LatentDiffusion(config, classes)
    return VAE(config) if config.kind == "vae" else GAN(config)
