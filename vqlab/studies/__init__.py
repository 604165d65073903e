"""Studies, grids and tuning: many Configs trained into one table, by any number of workers."""

from vqlab.studies.claims import claims_beside_measured
from vqlab.studies.commands import train_command
from vqlab.studies.generation import generation_arms, generation_table
from vqlab.studies.grid import Grid, GridTable
from vqlab.studies.markdown import to_markdown
from vqlab.studies.measured import measured_study
from vqlab.studies.measures import CODE_MEASURES, MEASURES, confidence_interval
from vqlab.studies.named import (
    CODEBOOKS,
    GRIDS,
    STUDY_NAMES,
    describe_differences,
    make_grid,
    named_grid,
    named_study,
    perceptual_table,
    perceptual_weights,
    summary_table,
)
from vqlab.studies.named_tuning import named_tuning
from vqlab.studies.published import (
    PUBLISHED,
    beside_published,
    codebooks_beside_published,
    scaling_beside_published,
    sizes_beside_published,
    transports_beside_published,
)
from vqlab.studies.quick_scale import QUICK_CHANGES
from vqlab.studies.rotation_claims import published_rotation
from vqlab.studies.storage import open_storage
from vqlab.studies.study import Study, profile_seeds
from vqlab.studies.study_table import StudyTable
from vqlab.studies.tuning import DEFAULT_SPACE, Range, Tuning, parse_space

__all__ = [
    "CODEBOOKS",
    "CODE_MEASURES",
    "DEFAULT_SPACE",
    "GRIDS",
    "MEASURES",
    "PUBLISHED",
    "QUICK_CHANGES",
    "STUDY_NAMES",
    "Grid",
    "GridTable",
    "Range",
    "Study",
    "StudyTable",
    "Tuning",
    "beside_published",
    "claims_beside_measured",
    "codebooks_beside_published",
    "confidence_interval",
    "describe_differences",
    "generation_arms",
    "generation_table",
    "make_grid",
    "measured_study",
    "named_grid",
    "named_study",
    "named_tuning",
    "open_storage",
    "parse_space",
    "perceptual_table",
    "perceptual_weights",
    "profile_seeds",
    "published_rotation",
    "scaling_beside_published",
    "sizes_beside_published",
    "summary_table",
    "to_markdown",
    "train_command",
    "transports_beside_published",
]
