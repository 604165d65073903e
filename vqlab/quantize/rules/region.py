"""Codes without vectors are drawn to where vectors are dense (the Region loss of StableVQ)."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vqlab.quantize.codebook import Codebook
from vqlab.quantize.codebook_rules import CodebookRule, Needs, register_rule
from vqlab.quantize.ranks import sum_over_ranks
from vqlab.quantize.row_layout import reads_are_free
from vqlab.quantize.rule_batch import RuleBatch, RuleStep

# Elements of a block of distances between codes.
_BLOCK = 1 << 22


@register_rule("region", source="Tang et al., StableVQ, 2026")
class Region(CodebookRule):
    """Draw active codes to the mean of their vectors, and inactive codes to those of active codes near them.

    A code is active if the batch has vectors of it, nₖ of them, and inactive if neither the batch nor the last
    ``window`` batches have one. With |I| the number of inactive codes::

        tₖ = mean of the vectors of k                                       k active
        qₖ = ⌈nₖ |I| / Σ n⌉
        tⱼ = mean of tₖ over the active k that have j among the qₖ inactive codes nearest to tₖ    j inactive
        loss = ‖c − sg[t]‖²,   mean over the elements of the codes that have a target

    It is added to the layer's own terms. Any other code has no target. Distances between codes are Euclidean and are
    computed in blocks.

    Args:
        num_codes: K, the number of codes.
        dim: C, the channels of a code.
        window: Number of batches without a vector after which a code is inactive, at least 1. Default 16.

    Attributes:
        recent: Vectors per code of the last batches, (window, K).
        place: Place of the oldest batch, int64 scalar.
    """

    weight = 1.0
    needs: ClassVar[Needs] = {"update": ("gradient", "its term trains the codes")}
    recent: Tensor
    place: Tensor

    def __init__(self, num_codes: int, dim: int, window: int = 16) -> None:
        super().__init__(num_codes, dim)
        self.register_buffer("recent", torch.zeros(window, num_codes))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    def loss(self, step: RuleStep, batch: RuleBatch) -> Float[Tensor, ""]:
        """Compute the mean squared distance of the codes from their targets."""
        counts, sums = sum_over_ranks(batch.counts), sum_over_ranks(batch.sums)
        inactive = (counts == 0) & (self.recent.sum(dim=0) == 0)
        targets, has_target = region_targets(step.codes.detach(), counts, sums, inactive)
        squares = torch.where(has_target[:, None], step.codes - targets, 0).square().sum()
        return squares / (has_target.sum().clamp_min(1) * self.dim)

    def after_step(self, step: RuleStep, batch: RuleBatch, book: Codebook) -> None:
        """Put the counts of the batch in the place of the oldest."""
        oldest = torch.arange(len(self.recent), device=self.place.device) == self.place
        self.recent.copy_(torch.where(oldest[:, None], batch.counts.to(self.recent.dtype), self.recent))
        self.place.copy_((self.place + 1) % len(self.recent))


def region_targets(
    codes: Float[Tensor, "K C"], counts: Float[Tensor, " K"], sums: Float[Tensor, "K C"], inactive: Bool[Tensor, " K"]
) -> tuple[Float[Tensor, "K C"], Bool[Tensor, " K"]]:
    """Find the targets of active and inactive codes.

    Args:
        codes: The codes, (K, C).
        counts: Vectors of each code, nₖ, (K,).
        sums: Their sums, (K, C).
        inactive: The inactive codes, True in a mask of (K,); they have no vectors.

    Returns:
        The targets, (K, C), and whether a code has one, (K,).

    Example:
        The code at 9 is inactive, and is drawn to the mean of the only active one.

        >>> codes, counts, sums = torch.tensor([[1.0], [9.0]]), torch.tensor([2.0, 0.0]), torch.tensor([[3.0], [0.0]])
        >>> region_targets(codes, counts, sums, torch.tensor([False, True]))[0].flatten()
        tensor([1.5000, 1.5000])
    """
    active = counts > 0
    means = sums / counts.clamp_min(1)[:, None]
    if reads_are_free(codes) and not inactive.any():
        return means, active
    number = inactive.sum()
    reach = (counts * number / counts.sum().clamp_min(1)).ceil().clamp_max(number).to(torch.int64)
    total, reached = torch.zeros_like(codes), torch.zeros_like(counts)
    size = max(1, _BLOCK // len(codes))
    for mean, near in zip(means.split(size), reach.split(size), strict=True):
        distances = torch.where(inactive, torch.cdist(mean, codes), torch.inf)
        farthest = distances.sort(dim=1).values.gather(1, (near - 1).clamp_min(0)[:, None])
        drawn = ((distances <= farthest) & inactive & (near > 0)[:, None]).to(codes.dtype)
        total += drawn.T @ mean
        reached += drawn.sum(dim=0)
    targets = torch.where(active[:, None], means, total / reached.clamp_min(1)[:, None])
    return targets, active | (reached > 0)
