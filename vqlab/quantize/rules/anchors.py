"""Codes that are rarely used move to encoder vectors (CVQ-VAE)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from vqlab.quantize.codebook import Codebook
from vqlab.quantize.codebook_rules import CodebookRule, Needs, register_rule
from vqlab.quantize.ranks import smallest_over_ranks
from vqlab.quantize.rule_batch import RuleBatch, RuleStep
from vqlab.quantize.search import nearest_codes

_STEEPNESS, _OFFSET = 10.0, 1e-3


@register_rule("cvq", source="Zheng and Vedaldi, Online Clustered Codebook, 2023")
class Anchors(CodebookRule):
    """Move each code towards its nearest encoder vector of the batch, the more the less it is used.

    With γ the layer's decay, nₖ the vectors of code k in the batch and ẑₖ the vector of the batch nearest to cₖ, after
    the layer's own update::

        pₖ ← γ pₖ + (1 − γ) nₖ / Σⱼ nⱼ,   p = 0 at first
        aₖ = exp(−10 K pₖ / (1 − γ) − 10⁻³)
        cₖ ← (1 − aₖ) cₖ + aₖ ẑₖ

    These are equations 3 to 5 of the publication with its nearest anchor; its code can also draw the anchor at random.
    With ``update="ema"`` the EMA sums move with the codes.

    Args:
        num_codes: K, the number of codes.
        dim: C, the channels of a code.

    Attributes:
        usage: p, EMA of the share of vectors of each code, (K,).
    """

    needs: ClassVar[Needs] = {"codes_from": (None, "anchors are vectors in the space of the codes themselves")}
    usage: Tensor

    def __init__(self, num_codes: int, dim: int) -> None:
        super().__init__(num_codes, dim)
        self.register_buffer("usage", torch.zeros(num_codes))

    def after_step(self, step: RuleStep, batch: RuleBatch, book: Codebook) -> None:
        """Update the usage and move the codes."""
        total = batch.counts.sum()
        share = (batch.counts / total.clamp_min(1)).to(self.usage.dtype)
        after = step.decay * self.usage + (1 - step.decay) * share
        self.usage.copy_(torch.where(total > 0, after, self.usage))
        moves = torch.exp(-_STEEPNESS * self.num_codes * self.usage / (1 - step.decay) - _OFFSET)
        anchors = nearest_vectors(step, book.codes.detach().to(step.e.dtype))
        book.move_codes(anchors, torch.where(total > 0, moves, 0))


def nearest_vectors(step: RuleStep, codes: Float[Tensor, "K C"]) -> Float[Tensor, "K C"]:
    """Find the encoder vector nearest to each code, among those of all ranks that count.

    Args:
        step: The training step.
        codes: The codes, (K, C), of the dtype of the vectors.

    Returns:
        The vectors, (K, C); 0 if none counts.
    """
    e, rows = F.pad(step.e.detach(), (0, 0, 0, 1)), F.pad(step.rows, (0, 1))
    found = e[nearest_codes(codes, _only_counted(e, rows), step.distance)]
    one, other = (F.normalize(x, dim=1) if step.distance == "cosine" else x for x in (found, codes))
    distances = (one - other).square().sum(dim=1)
    return smallest_over_ranks(torch.where(rows.any(), distances, torch.inf), found)


def _only_counted(e: Float[Tensor, "N C"], rows: Bool[Tensor, " N"]) -> Float[Tensor, "N C"]:
    """The vectors, with copies of the first one that counts in place of those that do not."""
    first = rows.to(torch.uint8).argmax()
    return torch.where(rows[:, None], e, e.index_select(0, first[None]))
