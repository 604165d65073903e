"""A small image classifier, whose features stand in where Inception's cannot be had."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

# Names, in ``body``, of the feature maps that a perceptual loss compares: the end of each stage.
STAGES = ("2", "5", "8", "11")
_WIDTHS, _STRIDES = (32, 64, 128, 128), (2, 2, 1, 2)


class Classifier(nn.Module):
    """Images (B, 3, H, W) in [0, 1] to class logits (B, classes); ``features`` are (B, 128).

    Four 3×3 convolutions with batch normalisation, three of them halving, then a mean over space.
    """

    feature_dim = _WIDTHS[-1]

    def __init__(self, classes: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body = nn.Sequential(*_stages())
            self.head = nn.Linear(self.feature_dim, classes)

    def features(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 128"]:
        """Means over space of the last feature map."""
        return self.body(2 * images - 1).mean((2, 3))

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C"]:
        """Class logits."""
        return self.head(self.features(images))


def _stages() -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 3
    for width, stride in zip(_WIDTHS, _STRIDES, strict=True):
        layers += [nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return layers
