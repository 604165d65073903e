"""Encoder, decoder, the VQ-VAE, its baselines, priors over its codes, and the lab's classifier."""

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
    """The model of the Config's kind with its first weights; classes: of the data, which priors are told."""
    if config.kind == "vqvae":
        return VQVAE(config.model, config.quantizer, config.seed)
    if config.kind == "transformer":
        return CodeTransformer(config, classes)
    if config.kind == "diffusion":
        return LatentDiffusion(config, classes)
    return VAE(config) if config.kind == "vae" else GAN(config)
