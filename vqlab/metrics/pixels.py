"""Pixel metrics per image, on values in [0, 1]."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

Batch = Float[Tensor, "B 3 H W"]
PerImage = Float[Tensor, " B"]


def mse(x: Batch, y: Batch) -> PerImage:
    """Mean squared error of each image, in [0, 1]."""
    return (x - y).square().flatten(1).mean(1)


def psnr(x: Batch, y: Batch) -> PerImage:
    """−10·log₁₀(MSE) of each image, dB; infinite for equal images."""
    return -10 * mse(x, y).log10()


def ssim(x: Batch, y: Batch) -> PerImage:
    """Structural similarity of each image (Wang et al., 2004) through piq: 11×11 window, σ 1.5."""
    import piq

    return piq.ssim(x, y, data_range=1.0, reduction="none")
