"""Figures: seaborn for print, plotly to touch."""

from vqlab.plots.gradients import angle_preservation, angles_over_training, carried_by_angle
from vqlab.plots.playground import playground, playground_figure
from vqlab.plots.rotations import costs, near_opposite_errors
from vqlab.plots.runs import curves, image_grid, reconstructions, usage
from vqlab.plots.studies import study_intervals

__all__ = [
    "angle_preservation",
    "angles_over_training",
    "carried_by_angle",
    "costs",
    "curves",
    "image_grid",
    "near_opposite_errors",
    "playground",
    "playground_figure",
    "reconstructions",
    "study_intervals",
    "usage",
]
