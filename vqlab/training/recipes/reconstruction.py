"""The reconstruction loss of the VQ-VAE and the VAE: pixels, and perceptual terms if the Config weighs any."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from vqlab.config import Config
from vqlab.data import ImageData
from vqlab.losses import reconstruction_loss
from vqlab.training.perceptual import build_perceptual_loss


@dataclass
class ReconstructionLoss:
    """The reconstruction loss of one batch.

    Attributes:
        pixels: the pixel term, scalar with its graph.
        perceptual: the weighted sum of the perceptual terms, scalar with its graph; 0 without any.
        terms: each perceptual term without its weight, detached, by name.
    """

    pixels: Tensor
    perceptual: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)

    @property
    def total(self) -> Tensor:
        """Sum of the pixel term and the perceptual terms."""
        return self.pixels + self.perceptual

    @property
    def term_columns(self) -> dict[str, float]:
        """The perceptual terms as columns of ``metrics.jsonl``, ``NAME_loss``."""
        return {f"{name}_loss": float(value) for name, value in self.terms.items()}


class ReconstructionCriterion:
    """Computes the reconstruction loss that a Config describes.

    Args:
        config: the Config; ``config.loss`` decides the terms.
        data: the images; the variance of the training pixels scales the pixel term if
            ``loss.scale_by_variance`` is True.
        device: the torch device of the perceptual networks.
    """

    def __init__(self, config: Config, data: ImageData, device: str) -> None:
        self._config = config.loss
        self._pixel_variance = data.train.variance
        self._perceptual = build_perceptual_loss(config, data, device)

    def __call__(
        self, reconstruction: Float[Tensor, "B C H W"], images: Float[Tensor, "B C H W"]
    ) -> ReconstructionLoss:
        """Compare reconstructions with their images.

        Args:
            reconstruction: the model's output, in [0, 1].
            images: its input, in [0, 1].

        Returns:
            The terms of the loss, means over the batch.
        """
        pixels = reconstruction_loss(reconstruction, images, self._config, self._pixel_variance)
        if not self._perceptual:
            return ReconstructionLoss(pixels, pixels.new_zeros(()))
        return ReconstructionLoss(pixels, *self._perceptual(reconstruction, images))

    def measure_perceptual_time(
        self, reconstruction: Float[Tensor, "B C H W"], images: Float[Tensor, "B C H W"]
    ) -> dict[str, float]:
        """Measure how long the perceptual terms take in a step, by computing them once more.

        Args:
            reconstruction: the model's output, in [0, 1].
            images: its input, in [0, 1].

        Returns:
            ``perceptual_ms``, milliseconds of forward and backward; empty without perceptual terms.
        """
        if not self._perceptual:
            return {}
        leaf = reconstruction.detach().requires_grad_()
        start = time.perf_counter()
        torch.autograd.grad(self._perceptual(leaf, images)[0], leaf)
        if leaf.is_cuda:
            torch.cuda.synchronize(leaf.device)
        return {"perceptual_ms": 1000 * (time.perf_counter() - start)}
