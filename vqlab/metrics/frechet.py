"""The Fréchet distance between two sets of features, each modelled as a Gaussian."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from vqlab.errors import InputError

JACKKNIFE_GROUPS = 10


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of feature vectors.

    Attributes:
        mean: float64 (D,).
        covariance: float64 (D, D), with the divisor count − 1.
        count: number of feature vectors.
    """

    mean: Float64[np.ndarray, " D"]
    covariance: Float64[np.ndarray, "D D"]
    count: int

    @classmethod
    def from_features(cls, features: Float[Tensor, "N D"]) -> Moments:
        """Compute the moments of feature vectors, in float64.

        Args:
            features: at least 2 vectors, on any device.

        Returns:
            Their moments.

        Raises:
            InputError: if there are fewer than 2 vectors.

        Example:
            >>> Moments.from_features(torch.tensor([[0.0], [2.0]])).covariance
            array([[2.]])
        """
        if len(features) < 2:
            raise InputError(f"images={len(features)}: a Fréchet distance needs at least 2; use more images")
        rows = features.double().cpu().numpy()
        return cls(rows.mean(0), np.cov(rows, rowvar=False).reshape(rows.shape[1], rows.shape[1]), len(rows))

    @cached_property
    def root(self) -> Float64[np.ndarray, "D D"]:
        """Symmetric square root of the covariance; negative eigenvalues from rounding count as 0."""
        values, vectors = np.linalg.eigh(self.covariance)
        return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def frechet_distance(one: Moments, other: Moments) -> float:
    """Compute ‖μ₁ − μ₂‖² + tr Σ₁ + tr Σ₂ − 2·tr (Σ₁Σ₂)^½ in float64.

    The last trace is the sum of the square roots of the eigenvalues of Σ₂^½·Σ₁·Σ₂^½. This matrix is symmetric, so the
    result is real also if there are fewer images than dimensions; negative eigenvalues from rounding count as 0. Σ₂^½
    is computed once for each ``other``, so give the set that several others are compared with as ``other``.

    Source: Heusel et al., GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium, 2017.

    Args:
        one: moments of the first set.
        other: moments of the second set, of the same dimension.

    Returns:
        The squared Fréchet distance, at least 0 up to rounding. Its bias depends on the numbers of images: compare
        only distances with equal numbers.

    Raises:
        InputError: if the dimensions differ.

    Example:
        >>> one, other = (Moments(np.full(1, mean), np.full((1, 1), 4.0), count=2) for mean in (0.0, 3.0))
        >>> frechet_distance(one, other)
        9.0
    """
    if one.mean.shape != other.mean.shape:
        raise InputError(
            f"features of {len(one.mean)} and {len(other.mean)} dimensions: must be equal; extract both sets with the "
            "same extractor"
        )
    root_trace = np.sqrt(np.linalg.eigvalsh(other.root @ one.covariance @ other.root).clip(0)).sum()
    mean_term = ((one.mean - other.mean) ** 2).sum()
    return float(mean_term + np.trace(one.covariance) + np.trace(other.covariance) - 2 * root_trace)


def frechet_error(features: Float[Tensor, "N D"], reference: Moments) -> float:
    """Estimate the standard error of ``frechet_distance`` over the choice of the images.

    Delete-a-group jackknife with ten groups. It does not include the bias of the distance for few images.

    Source: Efron, The Jackknife, the Bootstrap and Other Resampling Plans, 1982.

    Args:
        features: features of the images, in any order that does not repeat with period 10.
        reference: moments of the reference set, whose own error is not included.

    Returns:
        The standard error of the distance of ``features`` to ``reference``; NaN for fewer than 20 images.
    """
    if len(features) < 2 * JACKKNIFE_GROUPS:
        return float("nan")
    group = torch.arange(len(features)) % JACKKNIFE_GROUPS
    distances = [
        frechet_distance(Moments.from_features(features[group != left_out]), reference)
        for left_out in range(JACKKNIFE_GROUPS)
    ]
    return float(np.std(distances)) * (JACKKNIFE_GROUPS - 1) ** 0.5
