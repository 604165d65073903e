"""Perceptual terms (paper §4.4.3): distances between the features that a fixed network sees."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Perceptual(nn.Module):
    """The weighted sum of feature losses, each a module (x, y) -> scalar for images in [0, 1].

    Johnson et al., Perceptual Losses for Real-Time Style Transfer and Super-Resolution, 2016; LPIPS: Zhang et
    al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, 2018. The modules stay in eval
    mode and their weights as they are.
    """

    def __init__(self, terms: Mapping[str, nn.Module], weights: Mapping[str, float]) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(terms).requires_grad_(False).eval()
        self.weights = {name: weights[name] for name in terms}

    def __bool__(self) -> bool:
        """Whether there is any term."""
        return len(self.terms) > 0

    def train(self, mode: bool = True) -> Perceptual:
        """Stays in eval mode."""
        return super().train(False)

    def forward(
        self, reconstruction: Float[Tensor, "B 3 H W"], images: Float[Tensor, "B 3 H W"]
    ) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """The weighted sum, and each term without its weight, detached."""
        with torch.autocast(images.device.type, enabled=False):
            values = {name: term(reconstruction.float(), images) for name, term in self.terms.items()}
        total = sum((self.weights[name] * value for name, value in values.items()), images.new_zeros(()))
        return total, {name: value.detach() for name, value in values.items()}
