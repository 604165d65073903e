"""Many Configs into one table: studies, grids and tuning, by any number of workers."""

from vqlab.studies.commands import train_command
from vqlab.studies.generation import generation_arms, generation_table
from vqlab.studies.grid import Grid, GridTable
from vqlab.studies.markdown import markdown
from vqlab.studies.named import (
    GRIDS,
    QUICK_CHANGES,
    describe_differences,
    make_grid,
    named_grid,
    named_study,
    perceptual_table,
    perceptual_weights,
    summary_table,
)
from vqlab.studies.storage import open_storage
from vqlab.studies.study import MEASURES, Study, StudyTable, interval, profile_seeds
from vqlab.studies.tuning import SPACE, Range, Tuning, parse_space

__all__ = [
    "GRIDS",
    "MEASURES",
    "QUICK_CHANGES",
    "SPACE",
    "Grid",
    "GridTable",
    "Range",
    "Study",
    "StudyTable",
    "Tuning",
    "describe_differences",
    "generation_arms",
    "generation_table",
    "interval",
    "make_grid",
    "markdown",
    "named_grid",
    "named_study",
    "open_storage",
    "parse_space",
    "perceptual_table",
    "perceptual_weights",
    "profile_seeds",
    "summary_table",
    "train_command",
]
