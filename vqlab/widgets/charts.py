"""plotly charts in a page: live, readable in both themes, and true after a reload."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import plotly.graph_objects as go

# Colour-blind palette of Okabe and Ito (2008).
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"


def chart(traces: list[Any], title: str, x: str, y: str, **layout: Any) -> go.FigureWidget:
    """A FigureWidget with named axes (units in the names), on the page's own ground."""
    settings = {"width": 760, "height": 320, "margin": {"l": 60, "r": 20, "t": 45, "b": 50}, "showlegend": False}
    return go.FigureWidget(
        traces,
        {"title": title, "template": "plotly_white", "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",
         "xaxis": {"title": x}, "yaxis": {"title": y}, **settings, **layout},
    )  # fmt: skip


@contextmanager
def redrawn(figure: go.FigureWidget) -> Iterator[go.FigureWidget]:
    """Change ``figure`` at once, and have a page that is opened later see the change.

    A FigureWidget hands a new page the data that it was built with, unless they are renewed (plotly.py 6 and 7).
    """
    with figure.batch_update():
        yield figure
    now = figure.to_dict()
    figure._widget_layout, figure._widget_data = now["layout"], now["data"]
