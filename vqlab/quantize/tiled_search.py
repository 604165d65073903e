"""Nearest code among many codes on a CPU: the codes are taken in tiles, so that a tile stays in the cache."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vqlab.quantize.near_ties import EqualCodes, Rounding, lowest_codes, nearest_of_pairs

# Codes of a tile, rows of a product, and rows whose maxima are held at once.
TILE = 4096
_ROWS = 64
_MANY_ROWS = 1024
# Codes of a group, of which only the maximum is held, and pairs of a row and a group that are looked at together.
_GROUP = 16
_PAIRS = 2048


def nearest_of_many_codes(
    x: Float[Tensor, "N D"],
    codes: Float[Tensor, "K D"],
    centre: Float[Tensor, " D"] | None,
    table: Float[Tensor, "K D"],
    bias: Float[Tensor, " K"],
    distance: str,
    rounding: Rounding | None,
) -> Int[Tensor, " N"]:
    """Find the code with the largest score 2x·c + bias of each row, or the nearest of those within rounding.

    Only the largest score in each group of 16 codes is held. The scores of the groups that can have the nearest code
    are computed again.

    Args:
        x: Vectors, (N, D).
        codes: The codebook, (K, D), for the comparison in float64.
        centre: What is subtracted from x, (D,); None for 0.
        table: The codes that are multiplied, (K, D).
        bias: Bias of each code, (K,).
        distance: ``"euclidean"`` or ``"cosine"``.
        rounding: Codes whose scores differ by less are compared in float64. None: none are.

    Returns:
        Indices of codes, (N,); 0 for a row with NaN.
    """
    groups, equal = _Groups(table, bias), EqualCodes(codes)
    indices = []
    for given in x.split(_MANY_ROWS):
        rows = given if centre is None else given - centre
        bounds = torch.zeros_like(rows[:, 0]) if rounding is None else rounding.of(rows)
        row, code = groups.candidates(rows, torch.where(bounds < torch.inf, bounds, 0))
        if rounding is not None:
            found = nearest_of_pairs(row, code, given, equal, distance)
        else:
            found = lowest_codes(row, code, len(rows), len(codes))
        indices.append(torch.where(found < len(codes), found, 0))
    return torch.cat(indices)


class _Groups:
    """The codes in tiles, and of each tile groups of codes that stand apart, so that maxima are quick."""

    def __init__(self, table: Tensor, bias: Tensor) -> None:
        self.table, self.bias = table, bias
        self.tiles = list(zip(table.split(TILE), bias.split(TILE), strict=True))
        # The codes of each group; −1 fills the last ones.
        self.members = torch.cat([_members(len(part), tile * TILE) for tile, (part, _) in enumerate(self.tiles)])
        self.buffer = table.new_empty(_ROWS, min(TILE, len(table)))

    def peaks(self, rows: Tensor) -> Tensor:
        """The largest score of each row in each group."""
        peaks = rows.new_empty(len(rows), len(self.members))
        place = 0
        for table, bias in self.tiles:
            width = -(-len(table) // _GROUP)
            for start in range(0, len(rows), _ROWS):
                part = rows[start : start + _ROWS]
                scores = torch.addmm(bias, part, table.T, alpha=2, out=self.buffer[: len(part), : len(table)])
                _group_maxima(scores, peaks[start : start + _ROWS, place : place + width])
            place += width
        return peaks

    def candidates(self, rows: Tensor, bounds: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and codes with a score within the bound of the row's best, as pairs."""
        peaks = self.peaks(rows)
        row, group = (peaks >= (peaks.amax(dim=1) - bounds)[:, None]).nonzero().unbind(1)
        scores = torch.cat([
            self.scores_of(rows[r], self.members[g])
            for r, g in zip(row.split(_PAIRS), group.split(_PAIRS), strict=True)
        ])  # fmt: skip
        best = scores.new_full((len(rows),), -torch.inf).scatter_reduce(0, row, scores.amax(dim=1), "amax")
        pair, member = (scores >= (best - bounds)[row][:, None]).nonzero().unbind(1)
        codes = self.members[group[pair], member]
        return row[pair][codes >= 0], codes[codes >= 0]

    def scores_of(self, rows: Tensor, members: Tensor) -> Tensor:
        """The scores of rows and the members of one group each, (P, 16)."""
        products = torch.bmm(self.table[members.clamp_min(0)], rows[:, :, None])[:, :, 0]
        return torch.where(members < 0, -torch.inf, 2 * products + self.bias[members.clamp_min(0)])


def _members(count: int, first: int) -> Int[Tensor, "g 16"]:
    width = -(-count // _GROUP)
    codes = torch.arange(width * _GROUP).reshape(_GROUP, width).T
    return torch.where(codes < count, codes + first, -1)


def _group_maxima(scores: Tensor, maxima: Tensor) -> None:
    width = maxima.shape[1]
    whole, rest = divmod(scores.shape[1], width)
    torch.amax(scores[:, : whole * width].unflatten(1, (whole, width)), dim=1, out=maxima)
    if rest:
        maxima[:, :rest] = torch.maximum(maxima[:, :rest], scores[:, whole * width :])
