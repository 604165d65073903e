"""Figures: seaborn for print, plotly to touch."""

from vqlab.plots.gradients import angle_preservation, angles_over_training, carried_by_angle
from vqlab.plots.playground import playground, playground_figure
from vqlab.plots.runs import curves, image_grid, reconstructions, usage
from vqlab.plots.studies import study_intervals

__all__ = [
    "angle_preservation",
    "angles_over_training",
    "carried_by_angle",
    "curves",
    "image_grid",
    "playground",
    "playground_figure",
    "reconstructions",
    "study_intervals",
    "usage",
]
