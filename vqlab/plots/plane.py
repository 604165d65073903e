"""Figures of the gradient field of each transport in a plane with codes: printed, and interactive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vqlab.analysis.plane import Plane, square_grid
from vqlab.plots.style import INK, colours, make_axes, plotly_template
from vqlab.quantize import rowwise_transport_names

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from jaxtyping import Float
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
    from torch import Tensor

# Values s of the slider of ``plane_explorer``, which puts the origin at (−s, −s).
SHIFTS = (0.0, 1.0, 3.0, 10.0, 100.0)
_HALF_WIDTH = 2.4
_ARROW_SCALE = 0.22
_STEPS = 15
# Of the explorer, which holds the field of every transport at every shift.
_FIELD_SIZE = 12


def plane_figure(
    kinds: Sequence[str] = ("straight_through", "rotation", "rodrigues", "reflection"),
    shifts: Sequence[float] = (0.0, 3.0, 100.0),
    plane: Plane | None = None,
) -> Figure:
    """Draw the negative gradient at the encoder for some transports and positions of the origin (matplotlib).

    Args:
        kinds: names of transports, one column each.
        shifts: one row for each value s, with the origin at (−s, −s); at least 0.
        plane: codes and target; the default Plane if None.

    Returns:
        A grid of panels with the borders between the cells of the codes. Arrows show −∇ at a grid of encoder
        vectors: their direction and relative length, and by colour the length.

    Raises:
        InputError: if a transport is not registered.
    """
    plane = plane or Plane()
    points, borders = square_grid(), _cell_borders(plane)
    title = "Negative gradient −∇ at the encoder, by transport and position of the origin"
    height = 2.35 + 1.3 / len(shifts)
    figure, panels = make_axes(len(kinds), title, rows=len(shifts), width=2.7, height=height)
    for index, axis in enumerate(panels):
        row, column = divmod(index, len(kinds))
        shift, kind = shifts[row], kinds[column]
        moved = replace(plane, origin=(-shift, -shift))
        arrows = -moved.gradient(points, kind)
        length = arrows.norm(dim=1)
        _draw_background(axis, moved, borders)
        quiver = axis.quiver(*points.T, *arrows.T, length, cmap=_length_map(), clim=(0, 3), angles="xy", scale=30)
        axis.set(title=kind)
        axis.label_outer()
        if column == 0:
            axis.set_ylabel(f"origin at {_position(shift)}\n\nsecond coordinate")
        if row == len(shifts) - 1:
            axis.set_xlabel("first coordinate")
    figure.colorbar(quiver, ax=panels, label="length of ∇", shrink=0.8)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _length_map() -> LinearSegmentedColormap:
    """Colours of short and long arrows, all of which are read on white and on black."""
    from matplotlib.colors import LinearSegmentedColormap

    long, short = colours(2)
    return LinearSegmentedColormap.from_list("length", [short, long])


def _position(shift: float) -> str:
    return f"(−{shift:g}, −{shift:g})" if shift else "(0, 0)"


def _cell_borders(plane: Plane) -> list[np.ndarray]:
    """Lines around the cell of each code, (points, 2) each."""
    from contourpy import contour_generator

    cells = plane.cells(square_grid(200)).reshape(200, 200).T
    line = np.linspace(-2.2, 2.2, 200)
    inside = ((cells == code).numpy().astype(float) for code in range(len(plane.codes)))
    lines = (contour_generator(line, line, cell).lines(0.5) for cell in inside)
    return [np.asarray(border) for borders in lines for border in borders]


def _draw_background(axis: Axes, plane: Plane, borders: list[np.ndarray]) -> None:
    from matplotlib.collections import LineCollection

    axis.add_collection(LineCollection(borders, colors=INK, linewidths=0.7), autolim=False)
    axis.plot(*plane.codes.T, "o", color=colours(4)[3], markersize=5, label="codes")
    axis.plot(*plane.target, "*", color=colours(3)[2], markersize=13, label="target of the decoder")
    axis.grid(visible=False)
    axis.set(aspect="equal", xlim=(-2.3, 2.3), ylim=(-2.3, 2.3))


def plane_explorer(kinds: Sequence[str] | None = None, plane: Plane | None = None) -> go.Figure:
    """Draw gradient field and descent paths with a menu of transports and a slider that moves the origin (plotly).

    The figure holds all fields and paths, so menu and slider work without a kernel.

    Args:
        kinds: names of transports; None for all whose gradient at a vector depends on that vector alone.
        plane: codes and target; the default Plane if None.

    Returns:
        Lines of −∇ at the encoder with a dot at the head, and paths of 15 gradient steps. The slider has the values
        ``SHIFTS``.

    Raises:
        InputError: if a transport is not registered.
    """
    import plotly.graph_objects as go

    plane, kinds = plane or Plane(), list(kinds or rowwise_transport_names())
    background = _background_traces(plane)
    traces = {shift: [trace for kind in kinds for trace in _gradient_traces(plane, kind, shift)] for shift in SHIFTS}
    figure = go.Figure([*background, *traces[SHIFTS[0]]])
    for index, trace in enumerate(figure.data[len(background) :]):
        trace.visible = index // 2 == 0
    limits = [-_HALF_WIDTH, _HALF_WIDTH]
    figure.update_layout(
        title="Negative gradient −∇ at the encoder (dot: head) and descent paths",
        width=760, height=720, template=plotly_template(),
        xaxis={"title": "first coordinate", "range": limits},
        yaxis={"title": "second coordinate", "range": limits, "scaleanchor": "x"},
        updatemenus=[_menu(kinds, len(background))], sliders=[_slider(traces, len(background))],
    )  # fmt: skip
    return figure


def _gradient_traces(plane: Plane, kind: str, shift: float) -> list[go.Scatter]:
    import plotly.graph_objects as go

    moved = replace(plane, origin=(-shift, -shift))
    points = square_grid(_FIELD_SIZE)
    heads = points - _ARROW_SCALE * moved.gradient(points, kind)
    paths = moved.descend(square_grid(4), kind, _STEPS)
    return [
        go.Scatter(**_join_paths(torch.stack([points, heads])), mode="lines+markers", name=f"−∇, {kind}",
                   line={"color": "#0072B2", "width": 1}, marker={"size": [0, 4, 0] * len(points)}),
        go.Scatter(**_join_paths(paths), mode="lines", name=f"{_STEPS} gradient steps",
                   line={"color": "#D55E00", "width": 2}),
    ]  # fmt: skip


def _join_paths(paths: Float[Tensor, "S N 2"]) -> dict[str, list[float | None]]:
    """N paths of S points as one line; None, which plotly draws as a gap, separates them."""
    gap = torch.full((1, *paths.shape[1:]), torch.nan)
    flat = torch.cat([paths, gap]).transpose(0, 1).reshape(-1, 2)
    x, y = ([None if np.isnan(value) else round(value, 3) for value in part.tolist()] for part in flat.T)
    return {"x": x, "y": y}


def _background_traces(plane: Plane) -> list[go.Scatter]:
    import plotly.graph_objects as go

    size = 120
    cells = plane.cells(square_grid(size, _HALF_WIDTH)).reshape(size, size).T.numpy()
    line = np.linspace(-_HALF_WIDTH, _HALF_WIDTH, size)
    greys = [[position, f"rgb({shade},{shade},{shade})"] for position, shade in ((0, 205), (1, 250))]
    return [
        go.Heatmap(x=line.tolist(), y=line.tolist(), z=((cells * 3) % len(plane.codes)).tolist(), colorscale=greys,
                   showscale=False, hoverinfo="skip"),
        go.Scatter(x=plane.codes[:, 0].tolist(), y=plane.codes[:, 1].tolist(), mode="markers", name="codes", zorder=1,
                   marker={"size": 11, "color": "#CC79A7", "line": {"width": 1, "color": "black"}}),
        go.Scatter(x=[plane.target[0]], y=[plane.target[1]], mode="markers",
                   name="target of the decoder", zorder=2,
                   marker={"size": 16, "symbol": "star", "color": "#009E73"}),
    ]  # fmt: skip


def _menu(kinds: Sequence[str], background: int) -> dict[str, Any]:
    """Buttons that show the traces of one transport; background: number of traces that are always visible."""

    def visible(selected: int) -> list[bool]:
        return [True] * background + [index // 2 == selected for index in range(2 * len(kinds))]

    buttons = [
        {"label": kind, "method": "restyle", "args": ["visible", visible(index)]} for index, kind in enumerate(kinds)
    ]
    return {"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.08}


def _slider(traces: Mapping[float, Sequence[go.Scatter]], background: int) -> dict[str, Any]:
    """Steps that replace the coordinates of all traces by those of one shift."""
    # Frames in place of restyle steps would start to play when the figure is opened.
    steps = [
        {
            "label": f"{shift:g}",
            "method": "restyle",
            "args": [{axis: [trace[axis] for trace in moved] for axis in "xy"},
                     list(range(background, background + len(moved)))],
        }
        for shift, moved in traces.items()
    ]  # fmt: skip
    return {"steps": steps, "currentvalue": {"prefix": "origin at (−s, −s), s = "}, "pad": {"t": 45}}
