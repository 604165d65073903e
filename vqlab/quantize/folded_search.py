"""Nearest code on a CPU: the place of the largest score from the maxima of the rows and columns of a table of codes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from vqlab.quantize.near_ties import EqualCodes, Rounding, lowest_codes, nearest_of_pairs

# Elements of a block of scores, which stays in the cache, and of the maxima that are held at once.
_SCORES = 1 << 20
_MAXIMA = 1 << 19
# Minimum vectors of a block: with fewer, reading a large codebook takes longer than the products.
_MIN_VECTORS = 64


def nearest_by_folding(
    x: Float[Tensor, "N D"],
    codes: Float[Tensor, "K D"],
    centre: Float[Tensor, " D"] | None,
    table: Float[Tensor, "K D"],
    bias: Float[Tensor, " K"],
    distance: str,
    *,
    exact: bool,
) -> Int[Tensor, " N"]:
    """Find the code with the largest score 2x·c + bias of each row; if exact, the nearest of those within rounding.

    The codes are the entries of a table of about √K rows and columns. Of the scores of a vector only the maximum of
    each row and of each column is held: the largest score is in the row and the column with the largest maxima, and
    the second largest differs in one of them. Vectors whose two largest scores are too close are looked at again.

    Args:
        x: Vectors, (N, D).
        codes: The codebook, (K, D), for the comparison in float64.
        centre: What is subtracted from x, (D,); None for 0.
        table: The codes that are multiplied, (K, D).
        bias: Bias of each code, (K,).
        distance: ``"euclidean"`` or ``"cosine"``.
        exact: Whether codes within rounding are compared in float64.

    Returns:
        Indices of codes, (N,), the lowest of equal scores.
    """
    rounding = Rounding(x, centre, table) if exact else None
    folded = _FoldedCodes(table, bias)
    found = [folded.largest(part if centre is None else part - centre) for part in x.split(folded.vectors)]
    indices, gaps = (torch.cat(parts) for parts in zip(*found, strict=True))
    # NaN is not greater.
    equal = EqualCodes(codes)
    close = (~(gaps > (0 if rounding is None else rounding.largest))).nonzero()[:, 0]
    for places in close.split(folded.block):
        given = x[places]
        vectors = given if centre is None else given - centre
        scores = torch.addmm(bias, vectors, table.T, alpha=2)
        bounds = torch.zeros_like(vectors[:, 0]) if rounding is None else rounding.of(vectors)
        least = scores.amax(dim=1) - torch.where(bounds < torch.inf, bounds, 0)
        row, code = (scores >= least[:, None]).nonzero().unbind(1)
        nearest = (
            nearest_of_pairs(row, code, given, equal, distance)
            if exact
            else lowest_codes(row, code, len(given), len(codes))
        )
        indices[places] = torch.where(nearest < len(codes), nearest, scores.argmax(dim=1))
    return indices


class _FoldedCodes:
    """The codes as a table of rows and columns, with codes that are never the nearest in its last row.

    Attributes:
        block: Vectors of one product.
        vectors: Vectors whose maxima are held at once.
    """

    def __init__(self, table: Float[Tensor, "K D"], bias: Float[Tensor, " K"]) -> None:
        self.width = 1 << (len(table).bit_length() // 2)
        missing = -len(table) % self.width
        self.table = F.pad(table, (0, 0, 0, missing)) if missing else table
        self.bias = F.pad(bias, (0, missing), value=-torch.inf)[:, None]
        self.height = len(self.table) // self.width
        self.block = max(_MIN_VECTORS, _SCORES // len(self.table))
        self.vectors = max(self.block, _MAXIMA // (self.width + self.height))
        # One buffer for all blocks: memory of this size goes back to the system when it is freed.
        self.buffer: Tensor | None = None

    def largest(self, vectors: Float[Tensor, "n D"]) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
        """The place of the largest score of each vector, and how much larger it is than the second largest.

        With a gap of 0 or NaN the place has no meaning, and may be K or more.
        """
        of_columns, of_rows = self._maxima(vectors)
        best = of_columns.amax(dim=0)
        column, next_in_columns = _place_and_second(of_columns, best)
        row, next_in_rows = _place_and_second(of_rows, best)
        return row * self.width + column, best - torch.maximum(next_in_columns, next_in_rows)

    def _maxima(self, vectors: Float[Tensor, "n D"]) -> tuple[Float[Tensor, "width n"], Float[Tensor, "height n"]]:
        # With the vectors along the last axis, every maximum is one of whole rows of memory.
        if self.buffer is None:
            self.buffer = vectors.new_empty(len(self.table) * min(self.block, len(vectors)))
        of_columns, of_rows = (vectors.new_empty(count, len(vectors)) for count in (self.width, self.height))
        for start in range(0, len(vectors), self.block):
            part = vectors[start : start + self.block]
            scores = self.buffer[: len(self.table) * len(part)].view(-1, len(part))
            torch.addmm(self.bias, self.table, part.T, alpha=2, out=scores)
            folded = scores.view(self.height, self.width, len(part))
            torch.amax(folded, dim=0, out=of_columns[:, start : start + self.block])
            torch.amax(folded, dim=1, out=of_rows[:, start : start + self.block])
        return of_columns, of_rows


def _place_and_second(
    maxima: Float[Tensor, "count n"], best: Float[Tensor, " n"]
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """The first place of the best in each column, and the largest of the others; writes to ``maxima``.

    ``argmax`` takes many times as long as a comparison and ``amax``.
    """
    count = len(maxima)
    ranks = torch.arange(count, 0, -1, dtype=maxima.dtype)[:, None]
    marks = torch.eq(maxima, best, out=torch.empty_like(maxima)).mul_(ranks)
    place = (count - marks.amax(dim=0)).to(torch.int64).clamp_max_(count - 1)
    return place, maxima.scatter_(0, place[None], -torch.inf).amax(dim=0)
