"""Near ties of the nearest-code search: what rounding can make of scores, and the nearer code in float64."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

_Length = TypeVar("_Length", float, Tensor)
# Elements of the pairs that are compared at once.
_BLOCK = 1 << 18
# Pairs of a row from which on equal codes are taken together, and the largest table that marks them.
_MANY_PAIRS = 8
_MARKS = 1 << 24
# Elements of the differences between some rows and all codes that take less time than a search for pairs.
_FEW = 1 << 17


class Rounding:
    """What rounding can make of the difference of two scores 2x·c + bias of a row.

    Args:
        lengths: Lengths of the N vectors, (N,).
        centre: What is subtracted from them, (D,); None for 0.
        squares: Squared lengths of the codes that are multiplied, (K,).
        dim: D, the channels.

    Attributes:
        largest: The largest bound of all vectors.
    """

    largest: float

    def __init__(
        self, lengths: Float[Tensor, " N"], centre: Float[Tensor, " D"] | None, squares: Float[Tensor, " K"], dim: int
    ) -> None:
        self._longest = float(squares.max()) ** 0.5
        self._unit = 2 * torch.finfo(squares.dtype).eps * (dim**0.5 + 4)
        most = float(lengths.nan_to_num(nan=0, posinf=0).max()) if len(lengths) else 0.0
        self.largest = self._bound(most if centre is None else most + float(torch.linalg.vector_norm(centre)))

    def of(self, rows: Float[Tensor, "n D"]) -> Float[Tensor, " n"]:
        """Compute the bound of each row.

        Args:
            rows: Vectors from the centre, (n, D).

        Returns:
            Bounds, (n,); not finite where it overflows.
        """
        return self._bound(torch.linalg.vector_norm(rows, dim=1))

    def _bound(self, length: _Length) -> _Length:
        return self._unit * self._longest * (2 * length + self._longest)


class EqualCodes:
    """The codes of a codebook without repetition, so that a row which is near to many equal codes has one pair.

    Many codes are equal where k-means starts at rows of which many are 0, as residuals are.

    Args:
        codes: The codebook, (K, D).
    """

    def __init__(self, codes: Float[Tensor, "K D"]):
        self.codes = codes
        self._first: Tensor | None = None

    def distinct(
        self, row: Int[Tensor, " P"], code: Int[Tensor, " P"], num_rows: int
    ) -> tuple[Int[Tensor, " p"], Int[Tensor, " p"]]:
        """Replace codes by the lowest code that is equal, if rows have many pairs.

        Args:
            row: The row of each pair, (P,).
            code: A code of it, (P,).
            num_rows: Number of rows.

        Returns:
            Rows and codes without repeated pairs, or those given if there are few.
        """
        if len(row) <= _MANY_PAIRS * num_rows:
            return row, code
        if self._first is None:
            groups = torch.unique(self.codes, dim=0, return_inverse=True)[1]
            self._first = lowest_codes(groups, torch.arange(len(self.codes)), len(self.codes), len(self.codes))[groups]
        code = self._first[code]
        if num_rows * len(self.codes) > _MARKS:
            pairs = torch.unique(row * len(self.codes) + code)
            return pairs // len(self.codes), pairs % len(self.codes)
        marks = torch.zeros(num_rows, len(self.codes), dtype=torch.bool)
        marks[row, code] = True
        row, code = marks.nonzero().unbind(1)
        return row, code


def nearest_of_pairs(
    row: Int[Tensor, " P"], code: Int[Tensor, " P"], x: Float[Tensor, "n D"], codes: EqualCodes, distance: str
) -> Int[Tensor, " n"]:
    """Find the nearest of some codes of each row, by differences in float64.

    Args:
        row: The row of each pair, (P,).
        code: A code that may be the row's nearest, (P,).
        x: Vectors, (n, D).
        codes: The codebook of K codes.
        distance: ``"euclidean"`` or ``"cosine"``.

    Returns:
        Indices of codes, (n,), the lowest of equal ones; K for a row without a pair, and with ``"cosine"`` for a row of
        zeros.
    """
    pairs, table = max(1, _BLOCK // max(x.shape[1], 1)), codes.codes
    row, code = codes.distinct(row, code, len(x))
    if distance == "cosine":
        # A vector of zeros has no direction: all codes are equally near, and none is compared.
        has_direction = x.any(dim=1)[row]
        row, code = row[has_direction], code[has_direction]
    squares = [
        _wide_squares(x[r], table[c], distance) for r, c in zip(row.split(pairs), code.split(pairs), strict=True)
    ]
    joined = torch.cat(squares)
    least = joined.new_full((len(x),), torch.inf).scatter_reduce(0, row, joined, "amin")
    return lowest_codes(row, torch.where(joined == least[row], code, len(table)), len(x), len(table))


def nearest_of_all(x: Float[Tensor, "n D"], codes: Float[Tensor, "K D"]) -> Int[Tensor, " n"] | None:
    """Find the nearest code of a few rows, by differences in float64.

    Args:
        x: Vectors, (n, D).
        codes: The codebook, (K, D).

    Returns:
        Indices of codes, (n,), the lowest of equal ones; None if there are so many rows and codes that the differences
        would take much memory.

    Example:
        >>> nearest_of_all(torch.tensor([[1.0]]), torch.tensor([[3.0], [2.0], [2.0]]))
        tensor([1])
    """
    if len(x) * codes.numel() > _FEW:
        return None
    return (x.double()[:, None] - codes.double()).square().sum(dim=2).argmin(dim=1)


def lowest_codes(row: Int[Tensor, " P"], code: Int[Tensor, " P"], num_rows: int, num_codes: int) -> Int[Tensor, " n"]:
    """Find the lowest code of each row.

    Args:
        row: The row of each pair, (P,).
        code: A code of it, (P,).
        num_rows: n, the number of rows.
        num_codes: K, the value of a row without a pair.

    Returns:
        Indices of codes, (n,).

    Example:
        >>> lowest_codes(torch.tensor([0, 0, 2]), torch.tensor([5, 3, 1]), 3, 8)
        tensor([3, 8, 1])
    """
    return torch.full((num_rows,), num_codes, dtype=torch.int64).scatter_reduce(0, row, code, "amin")


def _wide_squares(x: Float[Tensor, "P D"], codes: Float[Tensor, "P D"], distance: str) -> Float[Tensor, " P"]:
    wide, wide_codes = x.double(), codes.double()
    if distance == "cosine":
        wide, wide_codes = F.normalize(wide, dim=1), F.normalize(wide_codes, dim=1)
    return (wide - wide_codes).square().sum(dim=1)
