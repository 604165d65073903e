"""Grids and tuning through Optuna: many Configs, any number of workers, each point trained once."""

from vqlab.tuning.grids import Grid, GridTable, command
from vqlab.tuning.named import NAMED, grid_of, named_grid
from vqlab.tuning.storage import open_storage

__all__ = ["NAMED", "Grid", "GridTable", "command", "grid_of", "named_grid", "open_storage"]
