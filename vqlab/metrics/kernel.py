"""The kernel distance between two sets of features (KID where they are Inception's)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vqlab.errors import InputError

SUBSET, SUBSETS = 1000, 20


def kernel_distance(
    one: Float[Tensor, "N D"], other: Float[Tensor, "M D"], subset: int = SUBSET, seed: int = 0
) -> tuple[float, float]:
    """Unbiased MMD² with the kernel (x·y/D + 1)³, and its standard error.

    Bińkowski et al., Demystifying MMD GANs, 2018. The mean over twenty seeded subsets of ``subset`` vectors of each
    set, in float64; of all vectors, without an error, where both sets have no more than that. Raises InputError for
    fewer than 2 vectors.
    """
    if min(len(one), len(other), subset) < 2:
        raise InputError(f"images={min(len(one), len(other), subset)}: the kernel distance needs at least 2; give more")
    size = min(subset, len(one), len(other))
    rounds = 1 if size == len(one) == len(other) else SUBSETS
    generator = torch.Generator().manual_seed(seed)
    values = torch.stack([_mmd(_drawn(one, size, generator), _drawn(other, size, generator)) for _ in range(rounds)])
    error = float(values.std() / rounds**0.5) if rounds > 1 else float("nan")
    return float(values.mean()), error


def _drawn(features: Tensor, size: int, generator: torch.Generator) -> Tensor:
    return features.cpu()[torch.randperm(len(features), generator=generator)[:size]].double()


def _mmd(one: Tensor, other: Tensor) -> Tensor:
    import piq

    with torch.random.fork_rng(devices=[]):  # piq shuffles with the global generator
        return piq.KID()(one, other)
