"""The plane with its codes: the gradient field of each transport, to touch and for print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vqlab.analysis.plane import Plane, square_grid
from vqlab.plots.style import colours, make_axes
from vqlab.quantize import transport_names

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

SHIFTS = (0.0, 1.0, 3.0, 10.0, 100.0)
_ARROW = 0.22
_STEPS = 20


def plane_figure(
    kinds: Sequence[str] = ("straight_through", "rotation", "rodrigues", "reflection"),
    shifts: Sequence[float] = (0.0, 3.0, 100.0),
    plane: Plane | None = None,
) -> Figure:
    """For print: −∇ at the encoder for each transport (columns) and distance of the origin (rows)."""
    plane = plane or Plane()
    points = square_grid()
    title = "What the encoder is told (arrows: −∇, one step of descent), by transport and distance of the origin"
    figure, panels = make_axes(len(kinds), title, rows=len(shifts), width=2.7, height=2.7)
    for place, axis in enumerate(panels):
        shift, kind = shifts[place // len(kinds)], kinds[place % len(kinds)]
        moved = replace(plane, origin=(-shift, -shift))
        arrows = -moved.gradient(points, kind)
        length = arrows.norm(dim=1)
        _ground(axis, moved)
        quiver = axis.quiver(*points.T, *arrows.T, length, cmap="cividis_r", clim=(0, 3), angles="xy", scale=30)
        axis.set(title=kind)
        axis.label_outer()
        if place % len(kinds) == 0:
            axis.set_ylabel(f"origin {shift:g} away\nsecond coordinate")
        if place >= len(kinds) * (len(shifts) - 1):
            axis.set_xlabel("first coordinate")
    figure.colorbar(quiver, ax=panels, label="length of ∇", shrink=0.6)
    return figure


def _ground(axis: Any, plane: Plane) -> None:
    fine = square_grid(200)
    cells = plane.cells(fine).reshape(200, 200).T
    line = np.linspace(-2.2, 2.2, 200)
    for code in range(len(plane.codes)):
        axis.contour(line, line, (cells == code).numpy(), levels=[0.5], colors="0.75", linewidths=0.7)
    axis.plot(*plane.codes.T, "o", color=colours(4)[3], markersize=5)
    axis.plot(*plane.target, "*", color=colours(3)[2], markersize=13)
    axis.grid(visible=False)
    axis.set(aspect="equal", xlim=(-2.3, 2.3), ylim=(-2.3, 2.3))


def plane_explorer(kinds: Sequence[str] | None = None, plane: Plane | None = None) -> go.Figure:
    """To touch: a menu of transports, a slider that moves the origin away; arrows, and paths of 20 steps.

    Needs no kernel once made. kinds: all registered transports unless given.
    """
    import plotly.graph_objects as go

    plane, kinds = plane or Plane(), list(kinds or transport_names())
    ground = _plotly_ground(plane)
    shown = {shift: [trace for kind in kinds for trace in _traces(plane, kind, shift)] for shift in SHIFTS}
    figure = go.Figure([*ground, *shown[SHIFTS[0]]])
    for index, trace in enumerate(figure.data[len(ground) :]):
        trace.visible = index // 2 == 0
    figure.update_layout(
        title="What the encoder is told: −∇ (lines with a dot at their head) and 20 steps of descent",
        width=760, height=720, template="plotly_white",
        xaxis={"title": "first coordinate", "range": [-2.4, 2.4]},
        yaxis={"title": "second coordinate", "range": [-2.4, 2.4], "scaleanchor": "x"},
        updatemenus=[_menu(kinds, len(ground))], sliders=[_slider(shown, len(ground))],
    )  # fmt: skip
    return figure


def _traces(plane: Plane, kind: str, shift: float) -> list[go.Scatter]:
    import plotly.graph_objects as go

    moved = replace(plane, origin=(-shift, -shift))
    points = square_grid()
    heads = points - _ARROW * moved.gradient(points, kind)
    paths = moved.descend(square_grid(5), kind, _STEPS)
    return [
        go.Scatter(**_broken(torch.stack([points, heads])), mode="lines+markers", name=f"−∇, {kind}",
                   line={"color": "#0072B2", "width": 1}, marker={"size": [0, 4, 0] * len(points)}),
        go.Scatter(**_broken(paths), mode="lines", name="paths", line={"color": "#D55E00", "width": 2}),
    ]  # fmt: skip


def _broken(paths: torch.Tensor) -> dict[str, list[float | None]]:
    """Paths (S, N, 2) as one line with gaps between them."""
    gap = torch.full((1, *paths.shape[1:]), torch.nan)
    flat = torch.cat([paths, gap]).transpose(0, 1).reshape(-1, 2)
    x, y = ([None if np.isnan(v) else round(v, 3) for v in part.tolist()] for part in flat.T)
    return {"x": x, "y": y}


def _plotly_ground(plane: Plane) -> list[go.Scatter]:
    import plotly.graph_objects as go

    size = 160
    cells = plane.cells(square_grid(size, 2.4)).reshape(size, size).T.numpy()
    line = np.linspace(-2.4, 2.4, size)
    greys = [[place, f"rgb({shade},{shade},{shade})"] for place, shade in ((0, 205), (1, 250))]
    return [
        go.Heatmap(x=line.tolist(), y=line.tolist(), z=((cells * 3) % len(plane.codes)).tolist(), colorscale=greys,
                   showscale=False, hoverinfo="skip"),
        go.Scatter(x=plane.codes[:, 0].tolist(), y=plane.codes[:, 1].tolist(), mode="markers", name="codes",
                   marker={"size": 11, "color": "#CC79A7", "line": {"width": 1, "color": "black"}}),
        go.Scatter(x=[plane.target[0]], y=[plane.target[1]], mode="markers", name="the decoder's target",
                   marker={"size": 16, "symbol": "star", "color": "#009E73"}),
    ]  # fmt: skip


def _menu(kinds: Sequence[str], ground: int) -> dict[str, Any]:
    def visible(chosen: int) -> list[bool]:
        return [True] * ground + [index // 2 == chosen for index in range(2 * len(kinds))]

    buttons = [
        {"label": kind, "method": "restyle", "args": ["visible", visible(index)]} for index, kind in enumerate(kinds)
    ]
    return {"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.08}


def _slider(shown: Mapping[float, Sequence[go.Scatter]], ground: int) -> dict[str, Any]:
    """Steps that give every trace its line at that distance: frames would start to play by themselves."""
    steps = [
        {
            "label": f"{shift:g}",
            "method": "restyle",
            "args": [{axis: [trace[axis] for trace in traces] for axis in "xy"},
                     list(range(ground, ground + len(traces)))],
        }
        for shift, traces in shown.items()
    ]  # fmt: skip
    return {"steps": steps, "currentvalue": {"prefix": "distance of the origin: "}, "pad": {"t": 45}}
