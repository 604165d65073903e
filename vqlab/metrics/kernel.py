"""The kernel distance between two sets of features; on Inception's features it is the KID."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from vqlab.errors import InputError

SUBSET_SIZE, NUM_SUBSETS = 1000, 20


def kernel_distance(
    one: Float[Tensor, "N D"], other: Float[Tensor, "M D"], subset_size: int = SUBSET_SIZE, seed: int = 0
) -> tuple[float, float]:
    """Compute the unbiased squared maximum mean discrepancy with the kernel k(x, y) = (x·y/D + 1)³.

    It is the mean over 20 pairs of random subsets, in float64. If both sets have the size of a subset, all vectors
    are used once instead.

    Source: Bińkowski et al., Demystifying MMD GANs, 2018.

    Args:
        one: features of the first set.
        other: features of the second set.
        subset_size: vectors of each set in a subset, at least 2; the size of the smaller set if that is less.
        seed: seed of the subsets.

    Returns:
        The distance, which can be below 0, and its standard error over the subsets, NaN if there is only one.

    Raises:
        InputError: if a set has fewer than 2 vectors, or ``subset_size`` is below 2.
    """
    size = min(subset_size, len(one), len(other))
    if size < 2:
        raise InputError(f"images={size}: the kernel distance needs at least 2; use more images")
    subsets = 1 if size == len(one) == len(other) else NUM_SUBSETS
    generator = torch.Generator().manual_seed(seed)
    values = torch.stack(
        [
            _squared_mmd(_random_subset(one, size, generator), _random_subset(other, size, generator))
            for _ in range(subsets)
        ]
    )
    error = float(values.std() / subsets**0.5) if subsets > 1 else float("nan")
    return float(values.mean()), error


def _random_subset(features: Float[Tensor, "N D"], size: int, generator: torch.Generator) -> Float64[Tensor, "n D"]:
    return features.cpu()[torch.randperm(len(features), generator=generator)[:size]].double()


def _squared_mmd(one: Float64[Tensor, "n D"], other: Float64[Tensor, "n D"]) -> Float64[Tensor, ""]:
    import piq

    with torch.random.fork_rng(devices=[]):  # piq shuffles with the global generator
        return piq.KID()(one, other)
