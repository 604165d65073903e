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


def uniform_perplexity(tokens: int, num_codes: int) -> float:
    """About what perplexity reads when ``tokens`` ≥ 1 tokens fall on K codes at random: K only as tokens/K → ∞.

    exp of the mean entropy for counts X ~ Poisson(m), m = tokens/K: K·exp(log m − E[X log X]/m).
    """
    mean = tokens / num_codes
    counts = torch.arange(1, int(mean + 12 * math.sqrt(mean) + 20), dtype=torch.float64)
    log_chance = counts * math.log(mean) - mean - torch.lgamma(counts + 1)
    crowding = float((log_chance.exp() * counts * counts.log()).sum()) / mean
    return num_codes * math.exp(math.log(mean) - crowding)


def gini(counts: Float[Tensor, " K"]) -> Float[Tensor, ""]:
    """Inequality of code use, 0 (uniform) … 1−1/K (one code takes all): Σᵢ(2i−K−1)xᵢ / (KΣx), x ascending; Gini, 1912.

    0 where nothing was counted.
    """
    ordered = counts.double().sort().values
    size = len(ordered)
    weights = 2 * torch.arange(1, size + 1, dtype=torch.float64, device=counts.device) - size - 1
    return ((weights * ordered).sum() / (size * ordered.sum()).clamp_min(1e-300)).to(torch.float32)


def dead_age(windows: Float[Tensor, "W K"]) -> Float[Tensor, " K"]:
    """Windows since each code was last used: 0 in use in the last window … W never used."""
    used = windows > 0
    age = used.flip(0).to(torch.uint8).argmax(dim=0)
    return torch.where(used.any(dim=0), age, len(windows)).to(torch.float32)


def churn(windows: Float[Tensor, "W K"]) -> Float[Tensor, " W-1"]:
    """Share of codes in use that came or went between neighbouring windows, 0…1: |A△B|/|A∪B| (Jaccard's distance)."""
    used = windows > 0
    before, after = used[:-1], used[1:]
    return (before ^ after).sum(dim=1) / (before | after).sum(dim=1).clamp_min(1)
