"""Encoder, decoder, the VQ-VAE, its baselines, and the lab's classifier."""

from __future__ import annotations

from torch import nn

from vqlab.config import Config
from vqlab.models.classifier import Classifier
from vqlab.models.gan import GAN
from vqlab.models.vae import VAE, VAEOutput
from vqlab.models.vqvae import VQVAE, VQVAEOutput

__all__ = ["GAN", "VAE", "VQVAE", "Classifier", "VAEOutput", "VQVAEOutput", "build_model"]


def build_model(config: Config, classes: int = 0) -> nn.Module:
    """The model of the Config's kind with its first weights; classes: of the data, which priors may be told."""
    if config.kind == "vqvae":
        return VQVAE(config.model, config.quantizer, config.seed)
    return {"vae": VAE, "gan": GAN}[config.kind](config)
