"""The feature classifier: a small image classifier, whose features replace Inception's where there is no network."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

# Names, in ``Classifier.body``, of the layers whose outputs a perceptual loss compares: the last of each stage.
FEATURE_LAYERS = ("2", "5", "8", "11")
_CHANNELS, _STRIDES = (32, 64, 128, 128), (2, 2, 1, 2)


class Classifier(nn.Module):
    """Images in [0, 1] to class logits.

    Four 3×3 convolutions with batch normalisation and ReLU, three of them with stride 2, then the mean over space
    and a linear layer. Initial weights depend only on ``seed``, and the global generator keeps its state.

    Args:
        num_classes: number of logits.
        seed: seed of the initial weights.

    Attributes:
        feature_dim: number of features, 128.
    """

    feature_dim = _CHANNELS[-1]

    def __init__(self, num_classes: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body = nn.Sequential(*_convolutions())
            self.head = nn.Linear(self.feature_dim, num_classes)

    def features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 128"]:
        """Compute the features: means over space of the last feature map.

        Args:
            images: in [0, 1]; the channel of grey images is repeated.

        Returns:
            The features, at least 0.
        """
        return self.body(2 * images.expand(-1, 3, -1, -1) - 1).mean((2, 3))

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B classes"]:
        """Compute the class logits.

        Args:
            images: in [0, 1].

        Returns:
            Logits of the ``num_classes`` classes.
        """
        return self.head(self.features(images))


def _convolutions() -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 3
    for width, stride in zip(_CHANNELS, _STRIDES, strict=True):
        layers += [nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return layers
