"""Perceptual losses (paper §4.4.3): distances between features of a fixed network."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn


class PerceptualLoss(nn.Module):
    """Weighted sum of feature losses, Σ weightᵢ·termᵢ(x, y).

    The networks in the terms are fixed: they stay in eval mode, and their weights need no gradient. The terms are
    computed in float32 also under autocast. ``bool(loss)`` is False if there is no term.

    Source: Johnson et al., Perceptual Losses for Real-Time Style Transfer and Super-Resolution, 2016; Zhang et al.,
    The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, 2018 (LPIPS).

    Args:
        terms: feature losses by name; each takes two batches of images in [0, 1], (B, 3, H, W), and returns a scalar;
            the channel of grey images is repeated.
        weights: the weight of each term, by the same names; other names are ignored.
    """

    def __init__(self, terms: Mapping[str, nn.Module], weights: Mapping[str, float]) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(terms).requires_grad_(False).eval()
        self.weights = {name: weights[name] for name in terms}

    def __bool__(self) -> bool:
        return len(self.terms) > 0

    def train(self, mode: bool = True) -> PerceptualLoss:
        """Keep the module in eval mode.

        Args:
            mode: ignored.

        Returns:
            The module.
        """
        return super().train(False)

    def forward(
        self, reconstruction: Float[Tensor, "B C H W"], images: Float[Tensor, "B C H W"]
    ) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """Compare reconstructions with images.

        Args:
            reconstruction: reconstructed images, in [0, 1].
            images: original images, in [0, 1].

        Returns:
            The weighted sum, a scalar with a gradient (0 without terms), and each term by name, without its weight
            and without a gradient.
        """
        with torch.autocast(images.device.type, enabled=False):
            # The channel of grey images is repeated: the networks take three.
            pair = [batch.float().expand(-1, 3, -1, -1) for batch in (reconstruction, images)]
            values = {name: term(*pair) for name, term in self.terms.items()}
        total = sum((self.weights[name] * value for name, value in values.items()), images.new_zeros(()))
        return total, {name: value.detach() for name, value in values.items()}
