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
from vqlab.plots.codes import code_grid_panels, code_in_use, drawn_samples
from vqlab.plots.gradients import angle_histogram, angle_preservation, angles_over_training, carried_by_angle
from vqlab.plots.grids import heat_explorer, heat_maps, layer_costs, rate_quality, tuning_history, tuning_plot
from vqlab.plots.perceptual import tradeoff
from vqlab.plots.playground import playground, playground_figure
from vqlab.plots.rotations import costs, near_opposite_errors
from vqlab.plots.runs import curves, image_grid, reconstructions, training_so_far, usage
from vqlab.plots.samples import (
    completions,
    distance_by_noise,
    interpolations,
    neighbours,
    sample_grids,
    sample_settings,
    sample_sheet,
)
from vqlab.plots.studies import study_intervals

__all__ = [
    "angle_histogram",
    "angle_preservation",
    "angles_over_training",
    "carried_by_angle",
    "code_grid_panels",
    "code_in_use",
    "code_patches",
    "completions",
    "costs",
    "curves",
    "distance_by_noise",
    "drawn_samples",
    "heat_explorer",
    "heat_maps",
    "image_grid",
    "interpolations",
    "layer_costs",
    "lives",
    "near_opposite_errors",
    "neighbours",
    "perplexity_windows",
    "playground",
    "playground_figure",
    "projection",
    "rank_frequency",
    "rate_quality",
    "reconstructions",
    "sample_grids",
    "sample_settings",
    "sample_sheet",
    "study_intervals",
    "tradeoff",
    "training_so_far",
    "tuning_history",
    "tuning_plot",
    "usage",
    "usage_over_training",
    "usage_slider",
]
