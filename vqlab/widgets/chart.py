"""Widget that shows a plotly figure; the whole figure is one synchronised value."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import traitlets

_STATIC = Path(__file__).parent / "static"
# Colour-blind palette of Okabe and Ito (2008).
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
_LAYOUT = {
    "margin": {"l": 60, "r": 20, "t": 45, "b": 50}, "showlegend": False, "bargap": 0,
    "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "title": {"font": {"size": 14}},
}  # fmt: skip


class PlotlyScript(ipywidgets.Widget):  # type: ignore[misc]  # ipywidgets has no types
    """The source of plotly.js (5 MB), which all charts of a kernel share.

    A page gets it once, when the widget is created. A page that is opened later asks for it after its widgets are
    restored: as a part of their state it would take a slow page longer than the two seconds for which JupyterLab
    waits for a widget before it shows "model not found".

    Attributes:
        source: the script.
    """

    source = traitlets.Unicode(help="the script").tag(sync=True)

    def __init__(self, source: str) -> None:
        super().__init__(source=source)
        self.on_msg(lambda *_: self.send_state("source"))

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> dict[str, Any]:
        """Read the state; the script is in it when the widget is created, and where it is named.

        Args:
            key: names of attributes, as for ``ipywidgets.Widget``; None for all.
            drop_defaults: as for ``ipywidgets.Widget``.

        Returns:
            Values by name.
        """
        state: dict[str, Any] = super().get_state(key, drop_defaults)
        if key is None and self.comm is not None:
            state.pop("source", None)
        return state


@cache
def _cached_script() -> PlotlyScript:
    from plotly.offline import get_plotlyjs

    return PlotlyScript(source=get_plotlyjs())


def _plotly_script() -> PlotlyScript:
    """The shared model; a new one after ``Widget.close_all``."""
    if _cached_script().comm is None:
        _cached_script.cache_clear()
    return _cached_script()


class Chart(anywidget.AnyWidget):
    """A plotly chart with a transparent background, readable in the light and the dark theme.

    ``plotly.graph_objects.FigureWidget`` synchronises a figure piece by piece, and a page that misses one piece shows
    empty axes. Here the browser receives the whole figure at each change, and draws the one it has whenever the chart
    becomes visible.

    Args:
        axes: labels (horizontal, vertical) of each chart, from left to right, with their units.
        **layout: other values of plotly's layout. The chart fills the place that the page gives it.

    Attributes:
        figure: ``data`` and ``layout`` of the figure, as plotly.js takes them.
        script: the model that holds plotly.js.
        revision: number of figures so far; the element on the page has it as ``data-revision`` once it is drawn.
    """

    _esm = _STATIC / "chart.js"
    figure: traitlets.Dict[str, Any] = traitlets.Dict(help="data and layout, as plotly.js takes them").tag(sync=True)
    script = traitlets.Instance(PlotlyScript, help="plotly.js").tag(sync=True, **ipywidgets.widget_serialization)
    revision = traitlets.Int(0, help="number of figures so far").tag(sync=True)

    def __init__(self, axes: Sequence[tuple[str, str]], **layout: Any) -> None:
        self._layout = {**_LAYOUT, **_axes(axes), **layout}
        script = _plotly_script()
        super().__init__(script=script, figure={"data": [], "layout": self._layout})

    def show(self, traces: Sequence[dict[str, Any]], **layout: Any) -> None:
        """Replace the figure.

        Args:
            traces: plotly traces as dicts of JSON values, such as ``{"type": "bar", "x": [0, 1], "y": [3, 4]}``.
            **layout: values of plotly's layout for this figure, by their path with ``_`` between names, such as
                ``title_text``.
        """
        merged = dict(self._layout)
        for path, value in layout.items():
            merged = _with_value(merged, path.split("_"), value)
        with self.hold_sync():
            self.revision += 1
            self.figure = {"data": list(traces), "layout": merged}


def chart_title(index: int, text: str) -> dict[str, Any]:
    """Title above one of several charts, for ``Chart.show(..., annotations=[...])``.

    Args:
        index: which chart, from 0.
        text: the title.

    Returns:
        An annotation of plotly's layout.
    """
    suffix = "" if index == 0 else str(index + 1)
    return {
        "text": text, "showarrow": False, "xref": f"x{suffix} domain", "yref": f"y{suffix} domain",
        "x": 0.5, "y": 1.0, "xanchor": "center", "yanchor": "bottom", "font": {"size": 12},
    }  # fmt: skip


def _axes(labels: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Horizontal and vertical axes of charts side by side, the first a little wider than the others."""
    layout: dict[str, Any] = {}
    widths = [1.4 if index == 0 and len(labels) > 1 else 1.0 for index in range(len(labels))]
    gap = 0.1
    total = sum(widths) / (1 - gap * (len(labels) - 1))
    start = 0.0
    for index, ((x, y), width) in enumerate(zip(labels, widths, strict=True)):
        suffix = "" if index == 0 else str(index + 1)
        end = min(1.0, start + width / total)
        layout[f"xaxis{suffix}"] = {"title": {"text": x}, "domain": [start, end], "anchor": f"y{suffix}"}
        layout[f"yaxis{suffix}"] = {"title": {"text": y}, "anchor": f"x{suffix}"}
        start = end + gap
    return layout


def _with_value(values: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """A copy with one nested value replaced."""
    name, *rest = path
    return {**values, name: _with_value(values.get(name, {}), rest, value) if rest else value}
