"""Nearest code on a CPU: the place of the largest score from the maxima of the rows and columns of a table of codes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from vqlab.quantize.near_ties import EqualCodes, Rounding, lowest_codes, nearest_of_all, nearest_of_pairs

# Elements of a block of scores, which stays in the cache, and of the maxima that are held at once.
_SCORES = 1 << 19
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
    rounding: Rounding | None,
) -> Int[Tensor, " N"]:
    """Find the code with the largest score 2x·c + bias of each row, or the nearest of those within rounding.

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
        rounding: Codes whose scores differ by less are compared in float64. None: none are.

    Returns:
        Indices of codes, (N,), the lowest of equal scores.
    """
    folded = _FoldedCodes(table, bias)
    found = [folded.largest(part if centre is None else part - centre) for part in x.split(folded.vectors)]
    indices, gaps = (torch.cat(parts) for parts in zip(*found, strict=True))
    # NaN is not greater.
    equal = EqualCodes(codes)
    close = (~(gaps > (0 if rounding is None else rounding.largest))).nonzero()[:, 0]
    for places in close.split(folded.block) if len(close) else ():
        given = x[places]
        if rounding is not None and distance == "euclidean" and (few := nearest_of_all(given, codes)) is not None:
            indices[places] = few
            continue
        vectors = given if centre is None else given - centre
        scores = torch.addmm(bias, vectors, table.T, alpha=2)
        bounds = torch.zeros_like(vectors[:, 0]) if rounding is None else rounding.of(vectors)
        least = scores.amax(dim=1) - torch.where(bounds < torch.inf, bounds, 0)
        row, code = (scores >= least[:, None]).nonzero().unbind(1)
        nearest = (
            nearest_of_pairs(row, code, given, equal, distance)
            if rounding is not None
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
        if missing:
            table, bias = F.pad(table, (0, 0, 0, missing)), F.pad(bias, (0, missing), value=-torch.inf)
        self.table, self.bias = table, bias[:, None]
        self.height = len(self.table) // self.width
        self.block = max(_MIN_VECTORS, _SCORES // len(self.table))
        self.vectors = max(self.block, _MAXIMA // (self.width + self.height))
        # A code's number is that of its column plus that of its row; below it is what counts them.
        of_columns = torch.arange(self.width, dtype=table.dtype)
        of_rows = torch.arange(0, len(table), self.width, dtype=table.dtype)
        self.numbers = F.pad(torch.cat([of_columns, of_rows])[None], (0, 0, 0, 1), value=1)
        # One buffer for all blocks: memory of this size goes back to the system when it is freed.
        self.buffer: Tensor | None = None

    def largest(self, vectors: Float[Tensor, "n D"]) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
        """The place of the largest score of each vector, and how much larger it is than the second largest.

        With a gap of 0 or NaN the place has no meaning, and may be K or more.
        """
        maxima = self._maxima(vectors)
        best = maxima[: self.width].amax(dim=0)
        # ``argmax`` takes many times as long as this product: the number of the code, and 2 if its column and its row
        # are the only ones.
        marks = torch.eq(maxima, best, out=torch.empty_like(maxima))
        numbers, marked = (self.numbers @ marks).unbind(0)
        others = maxima.sub_(marks, alpha=torch.finfo(maxima.dtype).max).amax(dim=0)
        return numbers.to(torch.int64).clamp_max_(len(self.table) - 1), torch.where(marked == 2, best - others, 0)

    def _maxima(self, vectors: Float[Tensor, "n D"]) -> Float[Tensor, "maxima n"]:
        """The largest score of each column of codes, and of each row below."""
        # With the vectors along the last axis, every maximum is one of whole rows of memory.
        maxima = vectors.new_empty(self.width + self.height, len(vectors))
        of_columns, of_rows = (part.split(self.block, dim=1) for part in maxima.split([self.width, self.height]))
        for part, columns, rows in zip(vectors.T.split(self.block, dim=1), of_columns, of_rows, strict=True):
            scores = self._scores(vectors, part.shape[1])
            torch.addmm(self.bias, self.table, part, alpha=2, out=scores.view(len(self.table), -1))
            torch.amax(scores, dim=0, out=columns)
            torch.amax(scores, dim=1, out=rows)
        return maxima

    def _scores(self, vectors: Float[Tensor, "n D"], count: int) -> Float[Tensor, "height width count"]:
        """A place for the scores of some vectors of a block, the same for all blocks."""
        if self.buffer is None:
            self.buffer = vectors.new_empty(self.height, self.width, min(self.block, len(vectors)))
        if count == self.buffer.shape[2]:
            return self.buffer
        return self.buffer.view(-1)[: len(self.table) * count].view(self.height, self.width, count)
