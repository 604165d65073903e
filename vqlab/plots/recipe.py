"""The figure of the study ``recipe``: what each ingredient of the profile ``best`` is worth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vqlab.errors import InputError
from vqlab.plots.style import colours, make_axes
from vqlab.studies.measures import MEASURES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from vqlab.studies.study_table import StudyTable

_SIDES = (("best", "best − "), ("paper", "paper + "))


def ingredient_effects(table: StudyTable, measure: str = "psnr") -> Figure:
    """Draw how a measure changes with each ingredient of the profile ``best`` (matplotlib).

    Args:
        table: rows of ``named_study("recipe")``.
        measure: a key of ``vqlab.studies.MEASURES``. Default ``psnr``.

    Returns:
        Two panels: ``best`` without each ingredient minus ``best``, and ``paper`` with each ingredient minus
        ``paper``. Dots are the means of the differences paired by seed, bars their 95 % intervals (Student's t), which
        need at least two seeds. The titles of the panels have the mean of ``best`` and of ``paper``.

    Raises:
        InputError: if no row is finished.
    """
    summary = table.summary([measure])
    count = max(len(_ingredients(table, prefix)) for _, prefix in _SIDES)
    seeds = int(summary["n"].max())
    values = "mean and 95 % interval over seeds" if seeds > 1 else "one seed"
    title = f"What each ingredient is worth: change of {MEASURES[measure]}, {values}"
    figure, panels = make_axes(2, title, width=5.5, height=0.36 * count + 1.8)
    verbs = ("left out of", "added to")
    for axis, (base, prefix), verb, colour in zip(panels, _SIDES, verbs, colours(2), strict=True):
        _draw_differences(axis, table, base, prefix, measure, colour)
        mean = f" ({float(summary[measure]['mean'][base]):.4g})" if base in summary.index else ""
        axis.set(xlabel=f"change of {MEASURES[measure]}", title=f"{verb} {base}{mean}")
    return figure


def _ingredients(table: StudyTable, prefix: str) -> list[str]:
    arms = map(str, table.rows["arm"].unique())
    return [arm.removeprefix(prefix) for arm in arms if arm.startswith(prefix)]


def _draw_differences(
    axis: Axes, table: StudyTable, base: str, prefix: str, measure: str, colour: tuple[float, float, float]
) -> None:
    ingredients = _ingredients(table, prefix)
    for row, ingredient in enumerate(ingredients):
        try:
            difference = table.difference(prefix + ingredient, base, [measure]).iloc[0]
        except InputError:
            continue
        mean, low, high = (float(difference[name]) for name in ("mean difference", "low", "high"))
        error = None if math.isnan(low) else [[mean - low], [high - mean]]
        axis.errorbar([mean], [row], xerr=error, fmt="o", color=colour, capsize=4)
    axis.axvline(0, color="0.5", linewidth=1)
    axis.set_yticks(range(len(ingredients)), ingredients)
    axis.set_ylim(len(ingredients) - 0.5, -0.5)
