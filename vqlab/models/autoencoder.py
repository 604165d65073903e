"""The encoder and the decoder that a Config selects."""

from __future__ import annotations

from torch import nn

from vqlab.config import ModelConfig
from vqlab.models.blocks import Decoder, Encoder
from vqlab.models.prenorm import PreNormDecoder, PreNormEncoder


def build_encoder(config: ModelConfig, dim: int, channels: int = 3) -> nn.Module:
    """Build the encoder of ``config.block``.

    Args:
        config: the section ``model`` of a Config.
        dim: channels of z_e.
        channels: C, channels of an image.

    Returns:
        Images (B, C, H, W) in [0, 1] to z_e (B, dim, H/2ⁿ, W/2ⁿ), n = ``config.downsample``.
    """
    return (PreNormEncoder if config.block == "prenorm" else Encoder)(config, dim, channels)


def build_decoder(config: ModelConfig, dim: int, channels: int = 3) -> nn.Module:
    """Build the decoder of ``config.block``.

    Args:
        config: the section ``model`` of a Config.
        dim: channels of z_q.
        channels: C, channels of an image.

    Returns:
        z_q (B, dim, h, w) to images (B, 3, h·2ⁿ, w·2ⁿ); in [0, 1], with a linear output only in eval mode.
    """
    return (PreNormDecoder if config.block == "prenorm" else Decoder)(config, dim, channels)
