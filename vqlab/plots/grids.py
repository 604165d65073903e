"""Figures of grids: heat maps of what each point gave, rate against quality, and the cost of large codebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vqlab.plots.style import colours, make_axes
from vqlab.studies.study import MEASURES

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    from matplotlib.figure import Figure
    from optuna import Study

    from vqlab.studies import GridTable


def _short(axis: str) -> str:
    return axis.rpartition(".")[2]


def _title(table: GridTable) -> str:
    return f"Grid {table.grid.name}: {' × '.join(map(_short, table.grid.axes))}"


def _panels(table: GridTable) -> list[tuple[str, pd.DataFrame]]:
    """A name and the rows for each combination of values of the axes beyond the first two."""
    rest = list(table.grid.axes)[2:]
    if not rest:
        return [("", table.rows)]
    groups = table.rows.groupby(rest, sort=False)
    return [(", ".join(f"{_short(a)} = {v}" for a, v in zip(rest, key, strict=True)), part) for key, part in groups]


def _first_two(table: GridTable) -> tuple[str, str]:
    first, second = list(table.grid.axes)[:2]
    return first, second


def _square(part: pd.DataFrame, table: GridTable, measure: str) -> tuple[list[str], list[str], np.ndarray]:
    """Labels of the rows (first axis) and columns (second axis), and the measure at each; NaN where unknown."""
    first, second = _first_two(table)
    square = part.pivot(index=first, columns=second, values=measure)
    rows, columns = ([value for value in table.grid.axes[axis] if value in set(part[axis])] for axis in (first, second))
    return [str(value) for value in rows], [str(value) for value in columns], square.loc[rows, columns].to_numpy(float)


def grid_heatmaps(table: GridTable, measures: Sequence[str] = ("psnr", "perplexity", "utilisation")) -> Figure:
    """For print: a column for each measure, a row for each combination of the axes beyond the first two.

    One colour scale a measure, so rows compare; a point that is not finished or failed stays blank.
    """
    panels = _panels(table)
    figure, drawn = make_axes(len(measures), _title(table), rows=len(panels), width=3.7, height=2.8)
    first, second = map(_short, _first_two(table))
    for row, (told, part) in enumerate(panels):
        for column, measure in enumerate(measures):
            axis = drawn[row * len(measures) + column]
            mesh = _heat(axis, *_square(part, table, measure), table.rows[measure].to_numpy(float))
            axis.set(xlabel=second, ylabel=first)
            axis.set_title(f"{MEASURES[measure]}\n{told}".strip(), fontsize=9)
            figure.colorbar(mesh, ax=axis)
    return figure


def _heat(axis: Any, rows: list[str], columns: list[str], values: np.ndarray, every: np.ndarray) -> Any:
    low, high = np.nanmin(every), np.nanmax(every)
    mesh = axis.imshow(values, cmap="cividis", vmin=low, vmax=high, aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if value < low + 0.55 * (high - low) else "black"
            axis.text(x, y, f"{value:.4g}", ha="center", va="center", color=colour, fontsize=9)
    axis.set(xticks=range(len(columns)), xticklabels=columns, yticks=range(len(rows)), yticklabels=rows)
    axis.grid(visible=False)
    return mesh


def heatmap_explorer(table: GridTable, measures: Sequence[str] = ("psnr", "perplexity", "utilisation")) -> go.Figure:
    """To touch: the same heat maps with a menu of measures; hover for values. Needs no kernel once made."""
    from plotly.subplots import make_subplots

    panels = _panels(table)
    figure = make_subplots(1, len(panels), subplot_titles=[told for told, _ in panels], shared_yaxes=True)
    for measure in measures:
        for column, (_, part) in enumerate(panels, 1):
            rows, columns, values = _square(part, table, measure)
            figure.add_heatmap(
                x=columns, y=rows, z=values, colorscale="Cividis",
                zmin=table.rows[measure].min(), zmax=table.rows[measure].max(), showscale=column == len(panels),
                visible=measure == measures[0], texttemplate="%{z:.4g}", row=1, col=column,
            )  # fmt: skip
    first, second = map(_short, _first_two(table))
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
        title=_title(table), template="plotly_white", width=240 + 290 * len(panels), height=420,
        updatemenus=[{"buttons": buttons, "x": 1, "xanchor": "right", "y": 1.25}],
    )  # fmt: skip
    return figure


def rate_distortion(table: GridTable) -> Figure:
    """K × D: rate (filled: at the codes' entropy, hollow: fixed length) against PSNR; utilisation, time and memory."""
    figure, (rate, used, seconds, memory) = make_axes(4, "Codebook size and dimension", width=3.6)
    dims = list(table.grid.axes["quantizer.dim"])
    for dim, colour, mark in zip(dims, colours(len(dims)), "os^Dv", strict=False):
        rows = table.rows[table.rows["quantizer.dim"] == dim]
        codes = rows["quantizer.num_codes"]
        rate.plot(rows["entropy_bits"], rows["psnr"], f"{mark}-", color=colour, label=f"D = {dim}")
        rate.plot(rows["fixed_bits"], rows["psnr"], f"{mark}:", color=colour, markerfacecolor="none")
        for axis, measure in ((used, "utilisation"), (seconds, "wall_seconds"), (memory, "peak_memory_mib")):
            axis.plot(codes, rows[measure], f"{mark}-", color=colour)
    rate.set(xlabel="rate (bits an image)", ylabel="PSNR (dB)", title="filled: entropy, hollow: fixed length")
    rate.legend()
    used.set_ylim(0, 1.05)
    for axis, measure in ((used, "utilisation"), (seconds, "wall_seconds"), (memory, "peak_memory_mib")):
        axis.set(xscale="log", xlabel="K, codes", ylabel=MEASURES[measure], title=f"{MEASURES[measure]} by K")
        sizes = table.rows["quantizer.num_codes"].unique()
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axis.minorticks_off()
    return figure


def layer_costs(table: pd.DataFrame) -> Figure:
    """``scaling.layer_cost`` drawn: time and memory of one step of the layer alone by K."""
    told = f"One training step of the layer alone: {table['tokens'][0]} vectors, D = {table['D'][0]}"
    figure, (speed, memory) = make_axes(2, told)
    speed.plot(table["K"], table["ms"], "o-")
    speed.set(xscale="log", yscale="log", xlabel="K, codes", ylabel="median time (ms)")
    memory.plot(table["K"], table["mib"], "o-", label="peak above the state before")
    memory.plot(table["K"], table["matrix_mib"], "s:", color="0.5", label="all N×K distances would take")
    memory.plot(table["K"], table["codebook_mib"], "^--", color=colours(3)[2], label="the codes, K×D")
    memory.set(xscale="log", yscale="log", xlabel="K, codes", ylabel="memory (MiB)")
    memory.legend()
    for axis in (speed, memory):
        axis.set_xticks(table["K"], [f"{size:,}" for size in table["K"]])
        axis.minorticks_off()
    return figure


def tuning_history(study: Study) -> Figure:
    """For print: PSNR of each trial with the best so far, and the test PSNR of every trial after each epoch."""
    figure, (history, epochs) = make_axes(2, f"Tuning {study.study_name.rpartition('-')[0]}: what each trial gave")
    done = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    pruned = [trial for trial in study.trials if trial.state.name == "PRUNED"]
    for trials, mark, label, colour in ((done, "o", "finished", colours(1)[0]), (pruned, "x", "pruned", colours(4)[3])):
        values = [trial.value if trial.value is not None else np.nan for trial in trials]
        history.plot([trial.number for trial in trials], values, mark, color=colour, label=label)
        for trial in trials:
            reported = {epoch + 1: value for epoch, value in sorted(trial.intermediate_values.items())}
            epochs.plot(list(reported), list(reported.values()), f"{mark}-", color=colour, alpha=0.6, markersize=4)
    best = np.maximum.accumulate([trial.value or -np.inf for trial in done])
    history.step([trial.number for trial in done], best, where="post", color="0.5", label="best so far")
    history.set(xlabel="trial", ylabel="PSNR on the test images (dB)")
    history.legend()
    epochs.set(xlabel="epoch", ylabel="PSNR on the test images (dB)")
    epochs.locator_params(axis="x", integer=True)
    return figure


def style_tuning_plot(figure: go.Figure, title: str, *, x: str | None = None, y: str | None = None) -> go.Figure:
    """One of Optuna's plots with this lab's title and style; x, y: what its axes show, kept unless named."""
    figure.update_layout(title=title, template="plotly_white")
    if x:
        figure.update_xaxes(title_text=x)
    if y:
        figure.update_yaxes(title_text=y)
    return figure
