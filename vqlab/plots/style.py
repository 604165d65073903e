"""The common style of the printed figures: seaborn's white grid and colour-blind palette."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TITLE_CHARACTERS_PER_INCH = 9


def make_axes(
    columns: int, title: str, rows: int = 1, width: float = 4.2, height: float = 3.4
) -> tuple[Figure, list[Axes]]:
    """Create a figure with a grid of axes in vqlab's style.

    Args:
        columns: number of axes in a row, at least 1.
        title: title of the figure; it is wrapped to the width of the figure.
        rows: number of rows, at least 1.
        width: width of one column in inches.
        height: height of one row in inches.

    Returns:
        The figure, which notebooks display without pyplot, and its axes row by row.

    Example:
        >>> figure, axes = make_axes(2, "Two panels", rows=3)
        >>> len(axes)
        6
    """
    import seaborn as sns

    from vqlab.plots.png_figure import PNGFigure

    sns.set_theme(style="whitegrid", palette="colorblind")
    figure = PNGFigure(figsize=(width * columns, height * rows), layout="constrained")
    figure.suptitle(textwrap.fill(title, int(_TITLE_CHARACTERS_PER_INCH * width * columns)))
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def colours(count: int) -> list[tuple[float, float, float]]:
    """Return the first colours of seaborn's colour-blind palette.

    Args:
        count: how many colours; they repeat after ten.

    Returns:
        ``count`` triples (red, green, blue) in [0, 1]. The first is blue, the fourth vermilion.

    Example:
        >>> len(colours(12))
        12
    """
    import seaborn as sns

    return list(sns.color_palette("colorblind", count))


def label_log_ticks(axis: Axes, values: list[int]) -> None:
    """Label a logarithmic horizontal axis at the measured values only.

    Args:
        axis: axes whose horizontal scale is logarithmic.
        values: positions of the ticks; the labels have thousands separators.
    """
    from matplotlib.ticker import NullLocator

    axis.set_xticks(values, [f"{value:,}" for value in values])
    axis.xaxis.set_minor_locator(NullLocator())
