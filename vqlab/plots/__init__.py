"""Figures of Runs, studies and probes: matplotlib with seaborn's style for print, plotly for interaction.

Functions named ``…_explorer`` return plotly figures, all others matplotlib figures unless their documentation says
otherwise. Colours are those of colour-blind palettes.
"""

from vqlab.plots.codebook import code_patches, codebook_projection
from vqlab.plots.gradients import angle_preservation, angles_over_training, gradient_by_angle, token_histogram
from vqlab.plots.grids import grid_heatmaps, heatmap_explorer, rate_distortion
from vqlab.plots.health import rotation_benefit
from vqlab.plots.layer_cost import layer_costs
from vqlab.plots.panels import code_grid_panels, code_panels, sample_panels, training_panels
from vqlab.plots.perceptual import perceptual_tradeoff
from vqlab.plots.plane import plane_explorer, plane_figure
from vqlab.plots.probe import probe_histograms
from vqlab.plots.recipe import ingredient_effects
from vqlab.plots.rotations import backward_costs, near_antipodal_errors
from vqlab.plots.rules import rule_usage
from vqlab.plots.runs import image_row, reconstructions, training_curves
from vqlab.plots.samples import (
    completions,
    distance_by_noise,
    interpolations,
    nearest_neighbours,
    sample_grids,
    samples_by_setting,
    save_samples,
)
from vqlab.plots.studies import study_intervals
from vqlab.plots.tuning import (
    epochs_explorer,
    history_explorer,
    importance_explorer,
    settings_explorer,
    tuning_history,
)
from vqlab.plots.usage import (
    code_lifetimes,
    perplexity_by_window,
    rank_frequency,
    usage_by_place,
    usage_by_rank,
    usage_explorer,
    usage_over_training,
)

__all__ = [
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
    "epochs_explorer",
    "gradient_by_angle",
    "grid_heatmaps",
    "heatmap_explorer",
    "history_explorer",
    "image_row",
    "importance_explorer",
    "ingredient_effects",
    "interpolations",
    "layer_costs",
    "near_antipodal_errors",
    "nearest_neighbours",
    "perceptual_tradeoff",
    "perplexity_by_window",
    "plane_explorer",
    "plane_figure",
    "probe_histograms",
    "rank_frequency",
    "rate_distortion",
    "reconstructions",
    "rotation_benefit",
    "rule_usage",
    "sample_grids",
    "sample_panels",
    "samples_by_setting",
    "save_samples",
    "settings_explorer",
    "study_intervals",
    "token_histogram",
    "training_curves",
    "training_panels",
    "tuning_history",
    "usage_by_place",
    "usage_by_rank",
    "usage_explorer",
    "usage_over_training",
]
