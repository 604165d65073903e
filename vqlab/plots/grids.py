"""Figures of a Grid: heat maps of its measures, and rate against quality of a grid over the codebook's size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vqlab.errors import InputError
from vqlab.plots.style import colours, label_log_ticks, make_axes, plotly_template
from vqlab.studies.measures import MEASURES

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from vqlab.studies import GridTable

_SHOWN = ("psnr", "perplexity", "utilisation")


def grid_heatmaps(table: GridTable, measures: Sequence[str] = _SHOWN) -> Figure:
    """Draw heat maps of the measures over the first two axes of a grid (matplotlib).

    Args:
        table: of a grid with at least two axes.
        measures: keys of ``vqlab.studies.MEASURES``.

    Returns:
        One column for each measure, one row for each combination of values of the other axes. A measure has the same
        colour scale in all rows. Points that failed or are not finished are blank.

    Raises:
        InputError: if the grid has fewer than two axes.
    """
    from matplotlib.ticker import ScalarFormatter

    first, second = map(_short_name, _first_two(table))
    panels = _panels(table)
    figure, axes = make_axes(len(measures), _title(table), rows=len(panels), width=3.7, height=2.8)
    for row, (caption, part) in enumerate(panels):
        for column, measure in enumerate(measures):
            axis = axes[row * len(measures) + column]
            mesh = _draw_heatmap(axis, *_pivot(part, table, measure), table.rows[measure].to_numpy(float))
            axis.set(xlabel=second, ylabel=first)
            axis.set_title(f"{MEASURES[measure]}\n{caption}".strip(), fontsize=9)
            figure.colorbar(mesh, ax=axis, format=ScalarFormatter(useOffset=False))
    return figure


def heatmap_explorer(table: GridTable, measures: Sequence[str] = _SHOWN) -> go.Figure:
    """Draw heat maps over the first two axes of a grid with a menu of measures (plotly).

    The figure holds all values, so the menu works without a kernel.

    Args:
        table: of a grid with at least two axes.
        measures: keys of ``vqlab.studies.MEASURES``; the first is shown at first.

    Returns:
        One panel for each combination of values of the other axes.

    Raises:
        InputError: if the grid has fewer than two axes.
    """
    from plotly.subplots import make_subplots

    first, second = map(_short_name, _first_two(table))
    panels = _panels(table)
    figure = make_subplots(1, len(panels), subplot_titles=[caption for caption, _ in panels], shared_yaxes=True)
    for measure in measures:
        for column, (_, part) in enumerate(panels, 1):
            rows, columns, values = _pivot(part, table, measure)
            figure.add_heatmap(
                x=columns, y=rows, z=values, colorscale="Cividis",
                zmin=table.rows[measure].min(), zmax=table.rows[measure].max(), showscale=column == len(panels),
                visible=measure == measures[0], texttemplate="%{z:.4g}", row=1, col=column,
            )  # fmt: skip
    buttons = [
        {
            "label": MEASURES[measure],
            "method": "restyle",
            "args": ["visible", [other == measure for other in measures for _ in panels]],
        }
        for measure in measures
    ]
    figure.update_xaxes(title_text=second, type="category")
    figure.update_yaxes(title_text=first, type="category", col=1)
    figure.update_layout(
        title=_title(table), template=plotly_template(), width=240 + 290 * len(panels), height=420,
        updatemenus=[{"buttons": buttons, "x": 1, "xanchor": "right", "y": 1.25}],
    )  # fmt: skip
    return figure


def rate_distortion(table: GridTable) -> Figure:
    """Draw rate against PSNR, and utilisation, wall time and memory by codebook size (matplotlib).

    Args:
        table: of a grid over ``quantizer.num_codes`` (K) and ``quantizer.dim`` (D), at most five values of D.

    Returns:
        Four panels with one line for each D. The rate in bits per image is that of the codes at their entropy
        (filled markers) and at fixed length log₂ K (unfilled markers).
    """
    figure, (rate, utilisation, seconds, memory) = make_axes(
        4, "Rate, quality and cost by codebook size K and code dimension D", width=3.6
    )
    panels = ((utilisation, "utilisation"), (seconds, "wall_seconds"), (memory, "peak_memory_mib"))
    dims = list(table.grid.axes["quantizer.dim"])
    for dim, colour, mark in zip(dims, colours(len(dims)), "os^Dv", strict=False):
        rows = table.rows[table.rows["quantizer.dim"] == dim]
        rate.plot(rows["entropy_bits"], rows["psnr"], f"{mark}-", color=colour, label=f"D = {dim}")
        rate.plot(rows["fixed_bits"], rows["psnr"], f"{mark}:", color=colour, markerfacecolor="none")
        for axis, measure in panels:
            axis.plot(rows["quantizer.num_codes"], rows[measure], f"{mark}-", color=colour)
    rate.set(xlabel="rate (bits per image)", ylabel="PSNR (dB)", title="filled: entropy, unfilled: fixed length")
    rate.legend()
    utilisation.set_ylim(0, 1.05)
    for axis, measure in panels:
        axis.set(xscale="log", xlabel="number of codes K", ylabel=MEASURES[measure], title=f"{MEASURES[measure]} by K")
        label_log_ticks(axis, table.rows["quantizer.num_codes"].unique().tolist())
    return figure


def _short_name(field: str) -> str:
    return field.rpartition(".")[2]


def _title(table: GridTable) -> str:
    return f"Grid {table.grid.name}: {' × '.join(map(_short_name, table.grid.axes))}"


def _first_two(table: GridTable) -> tuple[str, str]:
    axes = list(table.grid.axes)
    if len(axes) < 2:
        raise InputError(f"grid {table.grid.name}: has {len(axes)} axis; a heat map needs at least 2")
    return axes[0], axes[1]


def _panels(table: GridTable) -> list[tuple[str, pd.DataFrame]]:
    """Caption and rows of each combination of values of the axes after the first two."""
    rest = list(table.grid.axes)[2:]
    if not rest:
        return [("", table.rows)]
    groups = table.rows.groupby(rest, sort=False)
    return [
        (", ".join(f"{_short_name(axis)} = {value}" for axis, value in zip(rest, values, strict=True)), part)
        for values, part in groups
    ]


def _pivot(part: pd.DataFrame, table: GridTable, measure: str) -> tuple[list[str], list[str], np.ndarray]:
    """Labels of rows (first axis) and columns (second axis), and the measure at each; NaN if not measured."""
    first, second = _first_two(table)
    pivoted = part.pivot(index=first, columns=second, values=measure)
    rows, columns = ([value for value in table.grid.axes[axis] if value in set(part[axis])] for axis in (first, second))
    values = pivoted.loc[rows, columns].to_numpy(float)
    return [str(value) for value in rows], [str(value) for value in columns], values


def _draw_heatmap(axis: Axes, rows: list[str], columns: list[str], values: np.ndarray, all_values: np.ndarray) -> Any:
    low, high = np.nanmin(all_values), np.nanmax(all_values)
    mesh = axis.imshow(values, cmap="cividis", vmin=low, vmax=high, aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if value < low + 0.55 * (high - low) else "black"
            axis.text(x, y, f"{value:.4g}", ha="center", va="center", color=colour, fontsize=9)
    axis.set(xticks=range(len(columns)), xticklabels=columns, yticks=range(len(rows)), yticklabels=rows)
    axis.grid(visible=False)
    return mesh
