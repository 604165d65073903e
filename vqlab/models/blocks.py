"""Encoder and decoder: strided and transposed convolutions around residual stacks (paper §3.1.1, §3.3.1)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from vqlab.config import ModelConfig


class ResidualBlock(nn.Module):
    """x + F(x), where F is ReLU, 3×3 convolution, ReLU, 1×1 convolution.

    Source: van den Oord et al., Neural Discrete Representation Learning, 2017, §4.1.

    Args:
        channels: channels of input and output.
        hidden_channels: channels between the two convolutions.
    """

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, hidden_channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden_channels, channels, 1),
        )

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Apply the block.

        Args:
            x: feature maps with C = ``channels``.

        Returns:
            x + F(x).
        """
        return x + self.body(x)


def _residual_stack(config: ModelConfig) -> list[nn.Module]:
    blocks: list[nn.Module] = [
        ResidualBlock(config.hidden, config.residual_hidden) for _ in range(config.residual_blocks)
    ]
    return [*blocks, nn.ReLU()]


def stage_channels(config: ModelConfig) -> list[int]:
    """Compute the channels after each halving: half of ``config.hidden``, except after the last one.

    Args:
        config: ``hidden`` and ``downsample``.

    Returns:
        One number for each halving.
    """
    return [config.hidden // 2] * (config.downsample - 1) + [config.hidden]


class Encoder(nn.Sequential):
    """Images (B, C, H, W) in [0, 1] to z_e (B, dim, H/2ⁿ, W/2ⁿ), where n is ``config.downsample``.

    n strided 4×4 convolutions, a 3×3 convolution, a residual stack and a 1×1 convolution.

    Args:
        config: numbers of channels, residual blocks and halvings.
        dim: channels of z_e.
        channels: C, channels of an image; 3 for colour.

    Example:
        >>> import torch
        >>> Encoder(ModelConfig(), 64)(torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 64, 8, 8])
    """

    def __init__(self, config: ModelConfig, dim: int, channels: int = 3) -> None:
        layers: list[nn.Module] = []
        for width in stage_channels(config):
            layers += [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.ReLU()]
            channels = width
        layers += [nn.Conv2d(channels, config.hidden, 3, padding=1), *_residual_stack(config)]
        super().__init__(*layers, nn.Conv2d(config.hidden, dim, 1))


class Decoder(nn.Sequential):
    """z_q (B, dim, h, w) to images (B, 3, h·2ⁿ, w·2ⁿ) in [0, 1], where n is ``config.downsample``.

    A 3×3 convolution, a residual stack, n transposed 4×4 convolutions and a sigmoid.

    Args:
        config: numbers of channels, residual blocks and halvings; as for the encoder.
        dim: channels of z_q.
        channels: C, channels of an image; 3 for colour.

    Example:
        >>> import torch
        >>> Decoder(ModelConfig(), 64)(torch.zeros(1, 64, 8, 8)).shape
        torch.Size([1, 3, 32, 32])
    """

    def __init__(self, config: ModelConfig, dim: int, channels: int = 3) -> None:
        layers: list[nn.Module] = [nn.Conv2d(dim, config.hidden, 3, padding=1), *_residual_stack(config)]
        features = config.hidden
        for width in [*reversed(stage_channels(config)[:-1]), channels]:
            layers += [nn.ConvTranspose2d(features, width, 4, stride=2, padding=1), nn.ReLU()]
            features = width
        super().__init__(*layers[:-1], nn.Sigmoid())
