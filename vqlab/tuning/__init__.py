"""Grids and tuning through Optuna: many Configs, any number of workers, each point trained once."""

from vqlab.tuning.commands import command
from vqlab.tuning.grids import Grid, GridTable
from vqlab.tuning.named import NAMED, grid_of, named_grid
from vqlab.tuning.storage import open_storage
from vqlab.tuning.tune import SPACE, Range, Tuning, space_of

__all__ = [
    "NAMED",
    "SPACE",
    "Grid",
    "GridTable",
    "Range",
    "Tuning",
    "command",
    "grid_of",
    "named_grid",
    "open_storage",
    "space_of",
]
