"""plotly charts in a page: live, readable in both themes, and true after a reload."""

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


def chart(traces: list[Any], title: str, x: str, y: str, **layout: Any) -> go.FigureWidget:
    """A FigureWidget with named axes (units in the names), on the page's own ground."""
    return go.FigureWidget(traces, {"title": title, "xaxis": {"title": x}, "yaxis": {"title": y}, **_LAYOUT, **layout})


def charts(left: list[Any], right: list[Any], axes: tuple[tuple[str, str], tuple[str, str]]) -> go.FigureWidget:
    """Two charts in one FigureWidget, since each carries its own 5 MB of script; axes: (x, y) names of each."""
    figure = make_subplots(1, 2, column_widths=[0.58, 0.42], subplot_titles=(" ", " "), horizontal_spacing=0.1)
    for column, (traces, (x, y)) in enumerate(zip((left, right), axes, strict=True), 1):
        figure.add_traces(traces, rows=1, cols=column)
        figure.update_xaxes(title=x, col=column)
        figure.update_yaxes(title=y, col=column)
    return go.FigureWidget(figure.update_layout({**_LAYOUT, "width": 980}))


@contextmanager
def redraw(figure: go.FigureWidget) -> Iterator[go.FigureWidget]:
    """Change ``figure`` at once, and have a page that is opened later see the change.

    A FigureWidget hands a new page the data that it was built with, unless they are renewed (plotly.py 6 and 7).
    """
    with figure.batch_update():
        yield figure
    now = figure.to_dict()
    figure._widget_layout, figure._widget_data = now["layout"], now["data"]
