"""Encoder and decoder: strided and transposed convolutions around residual stacks (paper §3.1.1, §3.3.1)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from vqlab.config import ModelConfig


class ResidualBlock(nn.Module):
    """h + F(h), F = ReLU, 3×3 convolution, ReLU, 1×1 convolution; (B, C, H, W) to the same."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReLU(), nn.Conv2d(channels, inner, 3, padding=1), nn.ReLU(), nn.Conv2d(inner, channels, 1)
        )

    def forward(self, h: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """The block's sum."""
        return h + self.body(h)


def _residual_stack(config: ModelConfig) -> list[nn.Module]:
    blocks: list[nn.Module] = [
        ResidualBlock(config.hidden, config.residual_hidden) for _ in range(config.residual_blocks)
    ]
    return [*blocks, nn.ReLU()]


def _widths(config: ModelConfig) -> list[int]:
    """Channels after each halving: half the hidden width until the last."""
    return [config.hidden // 2] * (config.downsample - 1) + [config.hidden]


class Encoder(nn.Sequential):
    """Images (B, 3, H, W) in [0, 1] to z_e (B, dim, H/2ⁿ, W/2ⁿ)."""

    def __init__(self, config: ModelConfig, dim: int) -> None:
        layers: list[nn.Module] = []
        channels = 3
        for width in _widths(config):
            layers += [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.ReLU()]
            channels = width
        layers += [nn.Conv2d(channels, config.hidden, 3, padding=1), *_residual_stack(config)]
        super().__init__(*layers, nn.Conv2d(config.hidden, dim, 1))


class Decoder(nn.Sequential):
    """z_q (B, dim, h, w) to images (B, 3, h·2ⁿ, w·2ⁿ) in [0, 1] by a sigmoid."""

    def __init__(self, config: ModelConfig, dim: int) -> None:
        layers: list[nn.Module] = [nn.Conv2d(dim, config.hidden, 3, padding=1), *_residual_stack(config)]
        channels = config.hidden
        for width in [*reversed(_widths(config)[:-1]), 3]:
            layers += [nn.ConvTranspose2d(channels, width, 4, stride=2, padding=1), nn.ReLU()]
            channels = width
        super().__init__(*layers[:-1], nn.Sigmoid())
