"""Edits of a code grid as functions that return a new grid."""

from __future__ import annotations

import torch

from vqlab.analysis.wrong_codes import replace_codes

Grid = list[list[int]]
# With the codes of all levels and heads of a cell in a list, if there are several.
Codes = Grid | list[list[list[int]]]
Cell = tuple[int, int]


def set_code(grid: Grid, cell: Cell, code: int) -> Grid:
    """Write a code into one cell.

    Args:
        grid: h rows of w codes.
        cell: (row, column), from 0.
        code: the code to write.

    Returns:
        The new grid; a cell outside the grid changes nothing.

    Example:
        >>> set_code([[0, 1], [2, 3]], (1, 0), 7)
        [[0, 1], [7, 3]]
    """
    return [
        [code if (row, column) == cell else old for column, old in enumerate(codes)] for row, codes in enumerate(grid)
    ]


def swap_codes(grid: Grid, first: int, second: int) -> Grid:
    """Exchange two codes in all cells.

    Args:
        grid: h rows of w codes.
        first: a code.
        second: the other code.

    Returns:
        The new grid.

    Example:
        >>> swap_codes([[0, 1], [1, 2]], 0, 1)
        [[1, 0], [0, 2]]
    """
    exchange = {first: second, second: first}
    return [[exchange.get(code, code) for code in codes] for codes in grid]


def randomise_codes(grid: Grid, percent: float, num_codes: int, seed: int) -> Grid:
    """Replace the codes of randomly selected cells by codes drawn uniformly from the codebook.

    Args:
        grid: h rows of w codes.
        percent: share of the cells that get a new code (%), from 0 to 100; a drawn code may equal the old one.
        num_codes: codebook size K; codes are drawn from 0…K−1.
        seed: seed of the random generator; the same seed gives the same grid.

    Returns:
        The new grid.
    """
    return replace_codes(torch.tensor(grid), percent, num_codes, seed).tolist()


def count_differences(grid: Codes, other: Codes) -> int:
    """Count the codes in which two grids differ.

    Args:
        grid: h rows of w codes, or of w lists of n codes.
        other: a grid of the same shape.

    Returns:
        The number of codes.

    Example:
        >>> count_differences([[0, 1], [2, 3]], [[0, 9], [2, 9]])
        2
    """
    return int((torch.tensor(grid) != torch.tensor(other)).sum())
