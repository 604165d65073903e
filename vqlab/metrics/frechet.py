"""The Fréchet distance between two sets of features, each taken for a Gaussian."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vqlab.errors import InputError

FOLDS = 10


@dataclass(frozen=True)
class Moments:
    """Mean (D,) and covariance (D, D, over count − 1) of ``count`` feature vectors, float64."""

    mean: np.ndarray
    covariance: np.ndarray
    count: int

    @classmethod
    def of(cls, features: Float[Tensor, "N D"]) -> Moments:
        """The moments of N vectors; raises InputError for fewer than 2."""
        if len(features) < 2:
            raise InputError(f"images={len(features)}: a Fréchet distance needs at least 2; give more")
        rows = features.double().cpu().numpy()
        return cls(rows.mean(0), np.cov(rows, rowvar=False).reshape(rows.shape[1], rows.shape[1]), len(rows))


def frechet_distance(one: Moments, other: Moments) -> float:
    """|μ₁ − μ₂|² + tr Σ₁ + tr Σ₂ − 2·tr (Σ₁Σ₂)^½, float64 (Heusel et al., GANs Trained by a TTUR, 2017).

    The last trace is the sum of the square roots of the eigenvalues of √Σ₁·Σ₂·√Σ₁, which is symmetric: so
    there is no complex root and fewer images than dimensions do no harm. Raises InputError for unequal D.
    """
    if one.mean.shape != other.mean.shape:
        raise InputError(
            f"features of {len(one.mean)} and {len(other.mean)} dimensions: take both sets through one extractor"
        )
    values, vectors = np.linalg.eigh(one.covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ other.covariance @ root).clip(0)).sum()
    apart = ((one.mean - other.mean) ** 2).sum()
    return float(apart + np.trace(one.covariance) + np.trace(other.covariance) - 2 * shared)


def frechet_error(features: Float[Tensor, "N D"], reference: Moments) -> float:
    """Standard error of the distance of ``features`` to ``reference`` over the choice of images.

    Delete-a-group jackknife, ten groups (Efron, The Jackknife, the Bootstrap and Other Resampling Plans, 1982);
    NaN for fewer than 20 images. The distance's small-sample bias is not in it: compare only equal counts.
    """
    if len(features) < 2 * FOLDS:
        return float("nan")
    fold = torch.arange(len(features)) % FOLDS
    without = [frechet_distance(Moments.of(features[fold != left_out]), reference) for left_out in range(FOLDS)]
    return float(np.std(without)) * (FOLDS - 1) ** 0.5
