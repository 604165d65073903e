"""Figures from a Study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vqlab.plots.style import colours, make_axes
from vqlab.studies.study import MEASURES, StudyTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def study_intervals(
    table: StudyTable, measures: Sequence[str] = ("psnr", "ssim", "perplexity"), title: str = "Study"
) -> Figure:
    """Each seed as a dot, each arm's mean with its 95 % interval as a bar beside them."""
    summary = table.summary(measures)
    good = table.rows[table.rows["error"] == ""]
    told = f"{title}: seeds (dots), mean and 95 % interval (bars)"
    figure, panels = make_axes(len(measures), told, height=0.45 * len(summary) + 1.6)
    for axis, measure in zip(panels, measures, strict=True):
        for place, (arm, colour) in enumerate(zip(summary.index, colours(len(summary)), strict=True)):
            seeds = good[good["arm"] == arm][measure]
            mean, low, high = summary.loc[arm, measure][["mean", "low", "high"]]
            axis.plot(seeds, [place - 0.12] * len(seeds), "o", color=colour, alpha=0.6)
            reach = None if low != low else [[mean - low], [high - mean]]
            axis.errorbar([mean], [place + 0.12], xerr=reach, fmt="s", color=colour, capsize=4)
        axis.set(xlabel=MEASURES[measure], yticks=range(len(summary)), yticklabels=list(summary.index))
        axis.invert_yaxis()
    for axis in panels[1:]:
        axis.set_yticklabels([])
    return figure
