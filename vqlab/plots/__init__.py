"""Figures: seaborn for print, plotly to touch."""

from vqlab.plots.codebook import (
    code_lifetimes,
    code_patches,
    codebook_projection,
    perplexity_windows,
    rank_frequency,
    usage_over_training,
    usage_slider,
)
from vqlab.plots.codes import code_grid_panels, code_panels, sample_panels
from vqlab.plots.gradients import angle_histogram, angle_preservation, angles_over_training, gradient_by_angle
from vqlab.plots.grids import (
    grid_heatmaps,
    heatmap_explorer,
    layer_costs,
    rate_distortion,
    style_tuning_plot,
    tuning_history,
)
from vqlab.plots.perceptual import perceptual_tradeoff
from vqlab.plots.plane import plane_explorer, plane_figure
from vqlab.plots.probe import probe_histograms
from vqlab.plots.rotations import backward_costs, near_antipodal_errors
from vqlab.plots.runs import image_grid, reconstructions, training_curves, training_panels, usage_by_rank
from vqlab.plots.samples import (
    completions,
    distance_by_noise,
    interpolations,
    nearest_neighbours,
    sample_grids,
    sample_settings,
    sample_sheet,
)
from vqlab.plots.studies import study_intervals

__all__ = [
    "angle_histogram",
    "angle_preservation",
    "angles_over_training",
    "backward_costs",
    "code_grid_panels",
    "code_lifetimes",
    "code_panels",
    "code_patches",
    "codebook_projection",
    "completions",
    "distance_by_noise",
    "gradient_by_angle",
    "grid_heatmaps",
    "heatmap_explorer",
    "image_grid",
    "interpolations",
    "layer_costs",
    "near_antipodal_errors",
    "nearest_neighbours",
    "perceptual_tradeoff",
    "perplexity_windows",
    "plane_explorer",
    "plane_figure",
    "probe_histograms",
    "rank_frequency",
    "rate_distortion",
    "reconstructions",
    "sample_grids",
    "sample_panels",
    "sample_settings",
    "sample_sheet",
    "study_intervals",
    "style_tuning_plot",
    "training_curves",
    "training_panels",
    "tuning_history",
    "usage_by_rank",
    "usage_over_training",
    "usage_slider",
]
