"""plotly charts for the live views: readable in the light and the dark theme, and up to date after a page reload."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

_LAYOUT = {
    "width": 760, "height": 320, "margin": {"l": 60, "r": 20, "t": 45, "b": 50}, "showlegend": False, "bargap": 0,
    "template": "plotly_white", "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",
}  # fmt: skip
# Colour-blind palette of Okabe and Ito (2008).
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"


def make_chart(traces: list[Any], title: str, x: str, y: str) -> go.FigureWidget:
    """Create a live chart with a transparent background.

    Args:
        traces: plotly traces.
        title: title of the chart.
        x: label of the horizontal axis, with its unit.
        y: label of the vertical axis, with its unit.

    Returns:
        A FigureWidget, 760 × 320 pixels.
    """
    return go.FigureWidget(traces, {"title": title, "xaxis": {"title": x}, "yaxis": {"title": y}, **_LAYOUT})


def make_chart_pair(
    left: list[Any], right: list[Any], labels: tuple[tuple[str, str], tuple[str, str]]
) -> go.FigureWidget:
    """Create two live charts side by side in one FigureWidget, since each FigureWidget stores 5 MB of plotly.js.

    Args:
        left: plotly traces of the left chart.
        right: plotly traces of the right chart.
        labels: labels of the (horizontal, vertical) axes of the left and of the right chart.

    Returns:
        A FigureWidget, 980 × 320 pixels; its first two annotations are the titles of the charts.
    """
    figure = make_subplots(1, 2, column_widths=[0.58, 0.42], subplot_titles=(" ", " "), horizontal_spacing=0.1)
    for column, (traces, (x, y)) in enumerate(zip((left, right), labels, strict=True), 1):
        figure.add_traces(traces, rows=1, cols=column)
        figure.update_xaxes(title=x, col=column)
        figure.update_yaxes(title=y, col=column)
    return go.FigureWidget(figure.update_layout({**_LAYOUT, "width": 980}))


@contextmanager
def redraw(figure: go.FigureWidget) -> Iterator[go.FigureWidget]:
    """Send all changes made in the ``with`` block as one update, and keep them for pages that are opened later.

    A FigureWidget sends a new page the data that it was created with unless its stored copy is renewed (plotly.py 6
    and 7).

    Args:
        figure: the chart to change.

    Yields:
        The same chart.
    """
    with figure.batch_update():
        yield figure
    present = figure.to_dict()
    figure._widget_layout, figure._widget_data = present["layout"], present["data"]
