"""The VQ-VAE: encoder, quantizer, decoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vqlab.config import ModelConfig, QuantizerConfig
from vqlab.models.blocks import Decoder, Encoder
from vqlab.quantize import QuantizerOutput, VectorQuantizer


@dataclass
class VQVAEOutput:
    """reconstruction (B, 3, H, W) in [0, 1]; z_e (B, D, h, w); quantized: what the quantizer returned."""

    reconstruction: Tensor
    z_e: Tensor
    quantized: QuantizerOutput


class VQVAE(nn.Module):
    """van den Oord et al., Neural Discrete Representation Learning, 2017, with the axes of VectorQuantizer.

    Weights depend on ``seed`` alone, and building one leaves the global generator where it was.
    """

    def __init__(self, model: ModelConfig, quantizer: QuantizerConfig, seed: int = 0) -> None:
        super().__init__()
        axes = quantizer.model_dump(exclude={"temperature_end"})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = Encoder(model, quantizer.dim)
            self.quantizer = VectorQuantizer(**axes, seed=seed)
            self.decoder = Decoder(model, quantizer.dim)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> VQVAEOutput:
        """Reconstruct images in [0, 1]."""
        z_e = self.encoder(images)
        quantized = self.quantizer(z_e)
        return VQVAEOutput(self.decoder(quantized.z_q), z_e, quantized)

    def encode(self, images: Float[Tensor, "B 3 H W"]) -> Int[Tensor, "B h w"]:
        """The code grid of images in [0, 1]."""
        return self.quantizer(self.encoder(images)).indices

    def decode(self, indices: Int[Tensor, "B h w"]) -> Float[Tensor, "B 3 H W"]:
        """Images in [0, 1] from a code grid; raises InputError for an index outside the codebook."""
        return self.decoder(self.quantizer.decode(indices))
