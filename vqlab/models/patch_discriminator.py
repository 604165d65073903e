"""A discriminator that scores overlapping patches, for the adversarial term of a VQ-VAE."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vqlab.config import Config
from vqlab.models.joined_batch_norm import JoinedBatchNorm2d
from vqlab.models.prenorm import PIXEL_MEAN, PIXEL_SCALE, Scale

_INIT_STD = 0.02
_MAX_LAYERS = 3


def patch_layers(image_size: int) -> int:
    """Number of strided layers after the first: a patch has about half the side of a small image.

    Args:
        image_size: the smaller of height and width of an image, pixels.

    Returns:
        1 up to 63 pixels (patches of 16 pixels), 2 up to 127 (34 pixels), else 3 (70 pixels).

    Example:
        >>> [patch_layers(size) for size in (32, 64, 256)]
        [1, 2, 3]
    """
    return max(1, min(_MAX_LAYERS, image_size.bit_length() - 5))


class PatchDiscriminator(nn.Sequential):
    """Images (B, C, H, W) in [0, 1] to scores (B, 1, h, w), one for each patch: logits, high for real images.

    A 4×4 convolution with stride 2, ``patch_layers`` 4×4 convolutions with batch normalisation, all but
    the last with stride 2, and a 4×4 convolution to one channel; leaky ReLU between them. Initial weights are
    N(0, 0.02²) and depend only on the Config's seed; the global generator of random numbers keeps its state.

    Source: Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, 2017.

    Args:
        config: size and channels of an image, ``loss.discriminator_width`` and ``seed``.

    Example:
        >>> PatchDiscriminator(Config())(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 1, 14, 14])
    """

    def __init__(self, config: Config) -> None:
        channels, height, image_width = config.data.shape
        width, count = config.loss.discriminator_width, patch_layers(min(height, image_width))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            layers: list[nn.Module] = [
                Scale(1 / PIXEL_SCALE, -PIXEL_MEAN / PIXEL_SCALE),
                nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
            ]  # fmt: skip
            for index in range(1, count + 1):
                stride = 1 if index == count else 2
                layers += [
                    nn.Conv2d(width, 2 * width, 4, stride=stride, padding=1, bias=False),
                    JoinedBatchNorm2d(2 * width), nn.LeakyReLU(0.2),
                ]  # fmt: skip
                width *= 2
            super().__init__(*layers, nn.Conv2d(width, 1, 4, padding=1))
            for layer in self:
                if isinstance(layer, nn.Conv2d):
                    nn.init.normal_(layer.weight, std=_INIT_STD)

    def scores(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, " N"]:
        """Score all patches of all images.

        Args:
            images: in [0, 1].

        Returns:
            The scores of the B·h·w patches.
        """
        return self(images).flatten()
