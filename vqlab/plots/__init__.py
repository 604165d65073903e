"""Figures: seaborn for print, plotly to touch."""

from vqlab.plots.codebook import (
    code_patches,
    lives,
    perplexity_windows,
    projection,
    rank_frequency,
    usage_over_training,
    usage_slider,
)
from vqlab.plots.gradients import angle_preservation, angles_over_training, carried_by_angle
from vqlab.plots.grids import heat_explorer, heat_maps, layer_costs, rate_quality, tuning_history
from vqlab.plots.playground import playground, playground_figure
from vqlab.plots.rotations import costs, near_opposite_errors
from vqlab.plots.runs import curves, image_grid, reconstructions, usage
from vqlab.plots.studies import study_intervals

__all__ = [
    "angle_preservation",
    "angles_over_training",
    "carried_by_angle",
    "code_patches",
    "costs",
    "curves",
    "heat_explorer",
    "heat_maps",
    "image_grid",
    "layer_costs",
    "lives",
    "near_opposite_errors",
    "perplexity_windows",
    "playground",
    "playground_figure",
    "projection",
    "rank_frequency",
    "rate_quality",
    "reconstructions",
    "study_intervals",
    "tuning_history",
    "usage",
    "usage_over_training",
    "usage_slider",
]
