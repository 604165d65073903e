"""Edits of a code grid, as pure functions: paint, swap, noise."""

from __future__ import annotations

import torch

Grid = list[list[int]]
Cell = tuple[int, int]


def painted(grid: Grid, cell: Cell, code: int) -> Grid:
    """``grid`` (h rows of w codes) with ``code`` at ``cell`` = (row, column)."""
    return [
        [code if (row, column) == cell else old for column, old in enumerate(codes)] for row, codes in enumerate(grid)
    ]


def swapped(grid: Grid, one: int, other: int) -> Grid:
    """``grid`` with the codes ``one`` and ``other`` exchanged wherever they stand."""
    exchange = {one: other, other: one}
    return [[exchange.get(code, code) for code in codes] for codes in grid]


def noised(grid: Grid, percent: float, num_codes: int, seed: int) -> Grid:
    """``grid`` with ``percent`` % of its cells, chosen at random, given codes drawn uniformly from 0…num_codes−1."""
    generator = torch.Generator().manual_seed(seed)
    flat = torch.tensor(grid)
    count = round(flat.numel() * percent / 100)
    places = torch.randperm(flat.numel(), generator=generator)[:count]
    flat.view(-1)[places] = torch.randint(num_codes, (count,), generator=generator)
    return flat.tolist()


def changed_cells(grid: Grid, other: Grid) -> int:
    """How many cells of two grids of one shape differ."""
    return sum(a != b for one, two in zip(grid, other, strict=True) for a, b in zip(one, two, strict=True))
