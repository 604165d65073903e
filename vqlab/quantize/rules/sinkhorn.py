"""Codes are assigned by optimal transport, so that all are used equally (OptVQ)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vqlab.quantize.codebook_rules import Choice, CodebookRule, Needs, register_rule
from vqlab.quantize.ranks import logsumexp_over_ranks, sum_over_ranks
from vqlab.quantize.rule_batch import RuleStep

_SHARPNESS, _ITERATIONS, _FLOOR = 10.0, 5, 1e-6


@register_rule(
    "sinkhorn",
    source="Zhang et al., Preventing Local Pitfalls in Vector Quantization via Optimal Transport, 2024",
)
class Sinkhorn(CodebookRule):
    """In training mode, assign codes so that all are used nearly equally; in eval mode the nearest code is taken.

    With the distances Aₙₖ = ‖eₙ − cₖ‖ of a batch, their mean μ and standard deviation σ over all n and k::

        Qₙₖ = exp(−10 (Aₙₖ − μ) / (σ + 10⁻⁶))
        five times: each column of Q is divided by K times its sum, each row by N times its sum
        iₙ = argmaxₖ Qₙₖ

    This is the released code with the largest share as the index; that code can also draw the index from Q. With
    ``distance="cosine"`` the vectors and codes are divided by their lengths first. It holds an N×K matrix.
    """

    needs: ClassVar[Needs] = {"assignment": ("nearest", "the rule chooses the codes")}

    def choose(self, step: RuleStep) -> Choice:
        """Choose the codes with the largest shares."""
        return balanced_codes(step.e.detach(), step.codes.detach(), step.rows, step.distance), None


def balanced_codes(
    e: Float[Tensor, "N C"], codes: Float[Tensor, "K C"], rows: Bool[Tensor, " N"], distance: str = "euclidean"
) -> Int[Tensor, " N"]:
    """Assign codes to vectors by Sinkhorn's iteration with equal totals of all codes.

    Args:
        e: Encoder vectors, (N, C), finite.
        codes: The codes, (K, C).
        rows: The vectors that count, True in a mask of (N,); the totals are over those of all ranks.
        distance: ``"euclidean"`` (default) or ``"cosine"``.

    Returns:
        Index of the code of each vector, (N,), in 0…K−1.

    Example:
        Both vectors are nearest to the first code.

        >>> balanced_codes(torch.tensor([[0.0], [0.4]]), torch.tensor([[0.0], [1.0]]), torch.tensor([True, True]))
        tensor([0, 1])
    """
    if distance == "cosine":
        e, codes = F.normalize(e, dim=1), F.normalize(codes, dim=1)
    logits = -_SHARPNESS * _standardized(torch.cdist(e, codes), rows)
    # In logarithms, as the exponentials of far codes are 0 in float32; factors common to all entries are left out.
    by_row = torch.where(rows, logits.new_zeros(()), -torch.inf)
    by_code = logits.new_zeros(len(codes))
    for _ in range(_ITERATIONS):
        totals = logsumexp_over_ranks(logits + by_row[:, None])
        by_code = torch.where(totals.isfinite(), -totals, 0)
        by_row = torch.where(rows, -torch.logsumexp(logits + by_code, dim=1), -torch.inf)
    return (logits + by_code).argmax(dim=1)


def _standardized(distances: Float[Tensor, "N K"], rows: Bool[Tensor, " N"]) -> Float[Tensor, "N K"]:
    """Distances less their mean, over their standard deviation, of the rows of all ranks that count."""
    counted = torch.where(rows[:, None], distances, 0)
    size = sum_over_ranks(rows.sum()) * distances.shape[1]
    mean = sum_over_ranks(counted.sum()) / size.clamp_min(1)
    squares = sum_over_ranks(torch.where(rows[:, None], distances - mean, 0).square().sum())
    return (distances - mean) / ((squares / (size - 1).clamp_min(1)).sqrt() + _FLOOR)
