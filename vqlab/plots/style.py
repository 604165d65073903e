"""The common style of all figures: seaborn's grid and colour-blind palette on a transparent background.

Notebooks and reports show one figure on white or on black, so text and lines have a grey that is read on both.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TITLE_CHARACTERS_PER_INCH = 9
# Contrast of 4.35 to 1 with the page of JupyterLab's light theme (#fff) and of its dark theme (#111).
INK = "#797979"
_GRID_LINES = "#8080804d"
_TRANSPARENT = "rgba(0,0,0,0)"
_COLOURS: dict[str, Any] = {
    "figure.facecolor": "none", "axes.facecolor": "none", "legend.facecolor": "none", "legend.edgecolor": _GRID_LINES,
    "patch.force_edgecolor": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("axes.edgecolor", "grid.color"), _GRID_LINES),
}  # fmt: skip


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

    sns.set_theme(style="whitegrid", palette="colorblind", rc=_COLOURS)
    figure = PNGFigure(figsize=(width * columns, height * rows), layout="constrained")
    figure.suptitle(textwrap.fill(title, int(_TITLE_CHARACTERS_PER_INCH * width * columns)))
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def plotly_template() -> go.layout.Template:
    """Build the template of plotly figures: that of ``plotly_white`` with vqlab's colours.

    Returns:
        The template, for ``template`` of a layout.
    """
    import plotly.graph_objects as go
    import plotly.io as pio

    axis = dict.fromkeys(("gridcolor", "linecolor", "zerolinecolor"), _GRID_LINES)
    template = go.layout.Template(pio.templates["plotly_white"])
    template.layout.update(
        paper_bgcolor=_TRANSPARENT, plot_bgcolor=_TRANSPARENT, font_color=INK, xaxis=axis, yaxis=axis,
        updatemenudefaults={"bgcolor": _TRANSPARENT, "bordercolor": INK},
    )  # fmt: skip
    return template


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
