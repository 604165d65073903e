"""Encoder, decoder and the VQ-VAE."""

from vqlab.models.vqvae import VQVAE, VQVAEOutput

__all__ = ["VQVAE", "VQVAEOutput"]
