"""The figure of a Study: seeds, means and intervals by arm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vqlab.plots.style import colours, make_axes
from vqlab.studies.measures import CODE_MEASURES, MEASURES
from vqlab.studies.study_table import StudyTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LABELS = {**MEASURES, **CODE_MEASURES}


def study_intervals(
    table: StudyTable, measures: Sequence[str] = ("psnr", "ssim", "perplexity"), title: str = "Study"
) -> Figure:
    """Draw the measures of each arm of a Study: seeds, mean and 95 % interval (matplotlib).

    Args:
        table: with at least one finished row.
        measures: keys of ``vqlab.studies.MEASURES`` or ``vqlab.studies.CODE_MEASURES``.
        title: what was studied, the beginning of the figure's title.

    Returns:
        One panel for each measure. Dots are seeds, the square is the mean, and the bar is the 95 % interval of the
        mean (Student's t over seeds), which needs at least two seeds.

    Raises:
        InputError: if no row is finished.
    """
    summary = table.summary(measures)
    finished = table.rows[table.rows["error"] == ""]
    full_title = f"{title}: seeds (dots), mean (squares) and 95 % interval (bars)"
    figure, panels = make_axes(len(measures), full_title, height=0.45 * len(summary) + 1.6)
    for axis, measure in zip(panels, measures, strict=True):
        for row, (arm, colour) in enumerate(zip(summary.index, colours(len(summary)), strict=True)):
            seeds = finished[finished["arm"] == arm][measure]
            mean, low, high = summary.loc[arm, measure][["mean", "low", "high"]]
            axis.plot(seeds, [row - 0.12] * len(seeds), "o", color=colour, alpha=0.6)
            error = None if low != low else [[mean - low], [high - mean]]
            axis.errorbar([mean], [row + 0.12], xerr=error, fmt="s", color=colour, capsize=4)
        axis.set(xlabel=_LABELS[measure], yticks=range(len(summary)), yticklabels=list(summary.index))
        axis.invert_yaxis()
    for axis in panels[1:]:
        axis.set_yticklabels([])
    return figure
