"""Figures of what transports do to the gradient, from a Run's logs or a probe's table."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from vqlab.plots.style import colours, make_axes
from vqlab.training.gradients import HISTOGRAM_EDGES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from vqlab.training import Run

_LABELS = {
    "angle_gradients": "angle(∇ at z_q, ∇ at z_e) (degrees)",
    "angle_codes": "angle(z_e, z_q) (degrees)",
    "log_rescale": "log₁₀ λ, λ = ‖z_q‖/‖z_e‖",
}


def angles_over_training(run: Run) -> Figure:
    """Histograms over tokens at each log step, as columns of a heat map: both angles, and λ."""
    logged = run.angles()
    figure, panels = make_axes(
        3, f"Training of run {run.config.id} ({run.config.quantizer.transport}): share of tokens"
    )
    for axis, (name, label) in zip(panels, _LABELS.items(), strict=True):
        counts = np.array(logged[name].tolist(), dtype=float).T
        shares = counts / counts.sum(axis=0).clip(1)
        edges = HISTOGRAM_EDGES[name].numpy()
        mesh = axis.pcolormesh(logged["step"], (edges[:-1] + edges[1:]) / 2, shares, cmap="cividis", shading="nearest")
        occupied = edges[np.flatnonzero(counts.sum(axis=1) > 1e-3 * counts.sum()) + 1]
        low = edges[0] if name != "log_rescale" else -max(0.05, float(np.abs(occupied).max()))
        axis.set(xlabel="step", ylabel=label, ylim=(low, max(float(occupied.max()), edges[0] + 0.05) * 1.1))
        figure.colorbar(mesh, ax=axis, label="share of tokens")
    return figure


def angle_preservation(tables: Mapping[str, pd.DataFrame], sample: int = 1500) -> Figure:
    """angle(∇ at z_e, z_e) against angle(∇ at z_q, z_q), a dot a token: on the diagonal the angle is kept."""
    figure, panels = make_axes(
        len(tables), "Is the angle of the gradient to its own vector kept? On the line: yes", width=2.9, height=3.2
    )
    for axis, (name, table), colour in zip(panels, tables.items(), colours(len(tables)), strict=True):
        shown = table.iloc[:: max(1, len(table) // sample)]
        axis.plot([0, 180], [0, 180], color="0.4", linewidth=1)
        axis.plot(shown["angle_at_q"], shown["angle_at_e"], ".", color=colour, markersize=3, alpha=0.5)
        axis.set(title=name, xlabel="angle(∇ at z_q, z_q) (degrees)", aspect="equal", xlim=(0, 180), ylim=(0, 180))
    panels[0].set_ylabel("angle(∇ at z_e, z_e) (degrees)")
    return figure


def gradient_by_angle(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """How far each transport turns and stretches the gradient, by how far the code lies from its vector."""
    title = "Where transports differ: the farther the code, the more they turn and stretch (medians)"
    figure, panels = make_axes(2, title, width=4.8)
    marks = itertools.cycle("osv^Dx")
    for (name, table), colour, mark in zip(tables.items(), colours(len(tables)), marks, strict=False):
        middle = _median_by_angle(table)
        for axis, column in zip(panels, middle.columns, strict=True):
            # Open marks, so that transports that do the same are seen on top of each other.
            axis.plot(
                middle.index, middle[column], mark + "-", color=colour, label=name, fillstyle="none", markersize=4
            )
    panels[0].set(xlabel=_LABELS["angle_codes"], ylabel="turn of the gradient (degrees)")
    panels[1].set(xlabel=_LABELS["angle_codes"], ylabel="‖∇ at z_e‖ / ‖∇ at z_q‖")
    panels[0].legend()
    return figure


def angle_histogram(middles: np.ndarray, counts: np.ndarray, label: str, title: str) -> Figure:
    """Tokens by bin of one quantity; middles: of equal bins, in the unit that ``label`` names."""
    figure, (axis,) = make_axes(1, title, width=6)
    axis.bar(middles, counts, width=middles[1] - middles[0], color=colours(1)[0], linewidth=0)
    occupied = middles[counts > 0]
    if len(occupied):
        axis.set_xlim(occupied[0] - (reach := 2 * (middles[1] - middles[0])), occupied[-1] + reach)
    axis.set(xlabel=label, ylabel="tokens")
    return figure


def _median_by_angle(table: pd.DataFrame) -> pd.DataFrame:
    """Turn and stretch by angle(z_e, z_q) in bins of 2°; NaN, so a gap in the line, for under ten tokens."""
    bins = (table["angle_codes"] // 2 * 2 + 1).rename("angle")
    grouped = table.groupby(bins)[["angle_gradients", "length_ratio"]]
    middle = grouped.median().where(grouped.size() >= 10)
    return middle.reindex(np.arange(1, 180, 2))
