"""Numbers that say how a codebook is used; each depends on its window, so print it beside them."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def perplexity(counts: Float[Tensor, " K"]) -> Float[Tensor, ""]:
    """exp of the entropy of code use, in 1…K; ``counts`` are tokens per code in the window."""
    share = counts.double() / counts.sum().clamp_min(1)
    return torch.special.entr(share).sum().exp().to(torch.float32)


def utilisation(counts: Float[Tensor, " K"]) -> Float[Tensor, ""]:
    """Share of codes that were used at all in the window, 0…1."""
    return (counts > 0).float().mean()


def relative_error(e: Float[Tensor, "N D"], q: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """Mean over rows of ‖e−q‖²/‖e‖²."""
    return ((e - q).square().sum(1) / e.square().sum(1).clamp_min(1e-12)).mean()


def code_bits(codes: float) -> float:
    """log₂ of a number of codes: the bits of one index at fixed length (K) or at its entropy (perplexity)."""
    return math.log2(codes)
