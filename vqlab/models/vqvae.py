"""The VQ-VAE: encoder, quantizer and decoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vqlab.config import ModelConfig, QuantizerConfig
from vqlab.models.autoencoder import build_decoder, build_encoder
from vqlab.models.quantizers import build_quantizer
from vqlab.quantize import QuantizerOutput


@dataclass
class VQVAEOutput:
    """Result of ``VQVAE.forward``.

    Attributes:
        reconstruction: images (B, C, H, W), in [0, 1]; with a linear output only in eval mode.
        z_e: the encoder's output, (B, D, h, w).
        quantized: the quantizer's output: z_q, indices, loss and statistics.
    """

    reconstruction: Float[Tensor, "B C H W"]
    z_e: Float[Tensor, "B D h w"]
    quantized: QuantizerOutput


class VQVAE(nn.Module):
    """A vector-quantized autoencoder: the decoder reconstructs the image from z_q = quantizer(encoder(image)).

    Initial weights depend only on ``seed``, and the global generator keeps its state.

    Source: van den Oord et al., Neural Discrete Representation Learning, 2017.

    Args:
        model: channels, residual blocks and halvings of encoder and decoder.
        quantizer: family and arguments of the quantizer.
        seed: seed of the initial weights and of the quantizer.
        channels: C, channels of an image: 3 (default) for colour, 1 for grey.

    Attributes:
        encoder: images to z_e.
        quantizer: the ``Quantizer``, z_e to z_q.
        decoder: z_q to images.

    Raises:
        InputError: if the quantizer does not allow this combination of values.

    Example:
        >>> vqvae = VQVAE(ModelConfig(), QuantizerConfig())
        >>> vqvae.decode(torch.zeros(2, 8, 8, dtype=torch.long)).shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(self, model: ModelConfig, quantizer: QuantizerConfig, seed: int = 0, channels: int = 3) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = build_encoder(model, quantizer.dim, channels)
            self.quantizer = build_quantizer(quantizer, seed)
            self.decoder = build_decoder(model, quantizer.dim, channels)

    def forward(self, images: Float[Tensor, "B C H W"]) -> VQVAEOutput:
        """Reconstruct images.

        In training mode the quantizer also updates its codebook.

        Args:
            images: in [0, 1]; H and W are multiples of 2ⁿ, where n is ``ModelConfig.downsample``.

        Returns:
            The reconstruction, z_e and the quantizer's output.
        """
        z_e = self.encoder(images)
        # The rows of the quantizer are those of this format: one copy less, and the decoder's kernels for it.
        quantized = self.quantizer(z_e.contiguous(memory_format=torch.channels_last))
        return VQVAEOutput(self.decoder(quantized.z_q), z_e, quantized)

    def reconstruct_unquantized(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Reconstruct images from z_e instead of its codes, with the projections of ``code_dim``.

        Args:
            images: in [0, 1].

        Returns:
            The reconstruction, as ``forward`` returns it.
        """
        return self.decoder(self.quantizer.bypass(self.encoder(images)))

    def encode(self, images: Float[Tensor, "B C H W"]) -> Int[Tensor, "B h w *codes"]:
        """Compute the code grids of images; call it in eval mode, as training mode updates the codebook.

        Args:
            images: in [0, 1].

        Returns:
            Codes, int64, 0…K−1; h = H/2ⁿ and w = W/2ⁿ, where n is ``ModelConfig.downsample``. The last axis is that of
            the quantizer's ``codes_per_vector``, if it is above 1.
        """
        return self.quantizer(self.encoder(images)).indices

    def decode(self, indices: Int[Tensor, "B h w *codes"]) -> Float[Tensor, "B C H W"]:
        """Reconstruct images from code grids.

        Args:
            indices: codes, 0…K−1.

        Returns:
            Images in [0, 1]; H = h·2ⁿ and W = w·2ⁿ, where n is ``ModelConfig.downsample``.

        Raises:
            InputError: if an index is not in 0…K−1.
        """
        # The format of ``forward``: the same images bit for bit.
        return self.decoder(self.quantizer.decode(indices).contiguous(memory_format=torch.channels_last))
