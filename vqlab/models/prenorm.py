"""Encoder and decoder with pre-activation residual blocks: normalisation and SiLU before every convolution."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from vqlab.config import ModelConfig
from vqlab.models.blocks import stage_channels

# About the mean and the standard deviation of photographs in [0, 1]; ``model.center`` subtracts and divides by them.
PIXEL_MEAN, PIXEL_SCALE = 0.47, 0.25
_CHANNELS_PER_GROUP = 16


def _norm(config: ModelConfig, channels: int) -> list[nn.Module]:
    if config.norm == "none":
        return []
    return [nn.GroupNorm(max(1, channels // _CHANNELS_PER_GROUP), channels)]


class PreNormBlock(nn.Module):
    """x + F(x), where F is norm, SiLU, 3×3 convolution, norm, SiLU, 1×1 convolution; F is 0 at initialisation.

    Source: He et al., Identity Mappings in Deep Residual Networks, 2016; the start at 0: Goyal et al., Accurate, Large
    Minibatch SGD, 2017.

    Args:
        config: ``norm``, and the ratio of ``residual_hidden`` to ``hidden``.
        channels: channels of input and output.
    """

    def __init__(self, config: ModelConfig, channels: int) -> None:
        super().__init__()
        hidden_channels = max(1, channels * config.residual_hidden // config.hidden)
        last = nn.Conv2d(hidden_channels, channels, 1)
        nn.init.zeros_(last.weight)
        if last.bias is not None:
            nn.init.zeros_(last.bias)
        self.body = nn.Sequential(
            *_norm(config, channels), nn.SiLU(), nn.Conv2d(channels, hidden_channels, 3, padding=1),
            *_norm(config, hidden_channels), nn.SiLU(), last,
        )  # fmt: skip

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Apply the block.

        Args:
            x: feature maps with C = ``channels``.

        Returns:
            x + F(x).
        """
        return x + self.body(x)


class Scale(nn.Module):
    """factor · x + offset: brings pixels to the range of the network, or back.

    Args:
        factor: what x is multiplied by.
        offset: what is added after.
    """

    def __init__(self, factor: float, offset: float) -> None:
        super().__init__()
        self.factor, self.offset = factor, offset

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Scale and shift.

        Args:
            x: any tensor.

        Returns:
            factor · x + offset.
        """
        return x * self.factor + self.offset


class ClampInEval(nn.Module):
    """Limits pixels to [0, 1] in eval mode; in training mode every value passes, so that all have a gradient."""

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Clamp in eval mode.

        Args:
            x: images.

        Returns:
            x, in eval mode limited to [0, 1].
        """
        return x if self.training else x.clamp(0, 1)


class PreNormEncoder(nn.Sequential):
    """Images (B, C, H, W) in [0, 1] to z_e (B, dim, H/2ⁿ, W/2ⁿ), where n is ``config.downsample``.

    Strided 4×4 convolutions with norm and SiLU before each but the first, pre-activation blocks at the lowest
    resolution, norm, SiLU and a 1×1 convolution.

    Args:
        config: channels, blocks, halvings, ``norm`` and ``center``.
        dim: channels of z_e.
        channels: C, channels of an image; 3 for colour.

    Example:
        >>> import torch
        >>> PreNormEncoder(ModelConfig(block="prenorm"), 64)(torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 64, 8, 8])
    """

    def __init__(self, config: ModelConfig, dim: int, channels: int = 3) -> None:
        layers: list[nn.Module] = [Scale(1 / PIXEL_SCALE, -PIXEL_MEAN / PIXEL_SCALE)] if config.center else []
        for index, width in enumerate(stage_channels(config)):
            layers += [*_norm(config, channels), nn.SiLU()] if index else []
            layers.append(nn.Conv2d(channels, width, 4, stride=2, padding=1))
            channels = width
        layers += [PreNormBlock(config, channels) for _ in range(config.residual_blocks)]
        super().__init__(*layers, *_norm(config, channels), nn.SiLU(), nn.Conv2d(channels, dim, 1))


class PreNormDecoder(nn.Sequential):
    """z_q (B, dim, h, w) to images (B, 3, h·2ⁿ, w·2ⁿ), where n is ``config.downsample``.

    A 3×3 convolution, pre-activation blocks at the lowest resolution, then n doublings, each after norm and SiLU: a
    convolution and a pixel shuffle (Shi et al., Real-Time Single Image and Video Super-Resolution Using an Efficient
    Sub-Pixel Convolutional Neural Network, 2016), or a transposed 4×4 convolution. ``config.fine_blocks`` blocks
    follow each doubling but the last. With ``config.output`` ``linear`` the values may leave [0, 1] in training mode.

    Args:
        config: as for the encoder, with ``upsample``, ``fine_blocks`` and ``output``.
        dim: channels of z_q.
        channels: C, channels of an image; 3 for colour.

    Example:
        >>> import torch
        >>> PreNormDecoder(ModelConfig(block="prenorm"), 64)(torch.zeros(1, 64, 8, 8)).shape
        torch.Size([1, 3, 32, 32])
    """

    def __init__(self, config: ModelConfig, dim: int, channels: int = 3) -> None:
        features = config.hidden
        layers: list[nn.Module] = [nn.Conv2d(dim, features, 3, padding=1)]
        layers += [PreNormBlock(config, features) for _ in range(config.residual_blocks)]
        for width in [*reversed(stage_channels(config)[:-1]), channels]:
            last = width == channels
            layers += [*_norm(config, features), nn.SiLU(), *_doubling(config, features, width, 3 if last else 1)]
            layers += [] if last else [PreNormBlock(config, width) for _ in range(config.fine_blocks)]
            features = width
        if config.output == "sigmoid":
            layers.append(nn.Sigmoid())
        else:
            layers += [Scale(PIXEL_SCALE, PIXEL_MEAN)] if config.center else []
            layers.append(ClampInEval())
        super().__init__(*layers)


def _doubling(config: ModelConfig, channels: int, width: int, kernel: int) -> list[nn.Module]:
    """Twice the height and width, from ``channels`` to ``width`` channels."""
    if config.upsample == "transposed":
        return [nn.ConvTranspose2d(channels, width, 4, stride=2, padding=1)]
    return [nn.Conv2d(channels, 4 * width, kernel, padding=kernel // 2), nn.PixelShuffle(2)]
