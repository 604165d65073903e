"""Figures of how transports change the gradient, from the logs of a Run or the tables of a probe."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from vqlab.plots.style import colours, make_axes
from vqlab.training.gradients import HISTOGRAM_EDGES

if TYPE_CHECKING:
    import pandas as pd
    from jaxtyping import Float, Int
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from vqlab.training import Run

_LABELS = {
    "angle_gradients": "angle(∇ at z_q, ∇ at z_e)\n(degrees)",
    "angle_codes": "angle(z_e, z_q)\n(degrees)",
    "log_rescale": "log₁₀ λ, λ = ‖z_q‖ / ‖z_e‖",
}
_BIN_DEGREES = 2
_MIN_TOKENS = 10


def angles_over_training(run: Run) -> Figure:
    """Draw how the distributions of both angles and of λ over tokens change in training (matplotlib).

    Args:
        run: the Run of a VQ-VAE with at least one logged step.

    Returns:
        Three heat maps with one histogram for each logged step: angle between the gradients at z_q and z_e, angle
        between z_e and z_q, and log₁₀ of λ = ‖z_q‖ / ‖z_e‖. The colour is the share of the tokens of the batch.
    """
    logged = run.angles()
    title = f"Angles and λ over training of run {run.config.id} (transport: {run.config.quantizer.transport})"
    figure, panels = make_axes(3, title)
    for axis, (name, label) in zip(panels, _LABELS.items(), strict=True):
        counts = np.array(logged[name].tolist(), dtype=float).T
        shares = counts / counts.sum(axis=0).clip(1)
        edges = HISTOGRAM_EDGES[name].numpy()
        mesh = axis.pcolormesh(logged["step"], (edges[:-1] + edges[1:]) / 2, shares, cmap="cividis", shading="nearest")
        occupied = edges[np.flatnonzero(counts.sum(axis=1) > 1e-3 * counts.sum()) + 1]
        low = edges[0] if name != "log_rescale" else -max(0.05, float(np.abs(occupied).max()))
        high = max(float(occupied.max()), edges[0] + 0.05) * 1.1
        axis.set(xlabel="training step", ylabel=label, ylim=(low, high))
        figure.colorbar(mesh, ax=axis, label="share of tokens")
    return figure


def angle_preservation(tables: Mapping[str, pd.DataFrame], max_points: int = 1500) -> Figure:
    """Draw the angle between gradient and vector at z_e against that at z_q, one dot per token (matplotlib).

    A transport that preserves the angle has all dots on the diagonal, as the rotation does.

    Args:
        tables: tables of a probe by name of the transport, as ``vqlab.analysis.probe_transports`` returns them.
        max_points: about how many tokens to draw for each transport, evenly spaced over the table.

    Returns:
        One panel for each transport.
    """
    title = "Angle between gradient and vector at z_e against that at z_q (on the diagonal: preserved)"
    figure, panels = make_axes(len(tables), title, width=2.9, height=3.5)
    for axis, (name, table), colour in zip(panels, tables.items(), colours(len(tables)), strict=True):
        shown = table.iloc[:: max(1, len(table) // max_points)]
        axis.plot([0, 180], [0, 180], color="0.4", linewidth=1)
        axis.plot(shown["angle_at_q"], shown["angle_at_e"], ".", color=colour, markersize=3, alpha=0.5)
        axis.set(title=name, xlabel="angle(∇ at z_q, z_q) (degrees)", aspect="equal", xlim=(0, 180), ylim=(0, 180))
        axis.set(xticks=range(0, 181, 45), yticks=range(0, 181, 45))
    panels[0].set_ylabel("angle(∇ at z_e, z_e) (degrees)")
    return figure


def gradient_by_angle(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw by how much each transport rotates and rescales the gradient, by the angle between z_e and z_q (matplotlib).

    Args:
        tables: tables of a probe by name of the transport, as ``vqlab.analysis.probe_transports`` returns them.

    Returns:
        Two panels with medians over bins of 2°: the angle between the gradients at z_q and z_e, and the ratio of
        their lengths. A bin with fewer than 10 tokens is a gap in the line.
    """
    title = "Rotation and rescaling of the gradient by the angle between z_e and z_q (medians)"
    figure, panels = make_axes(2, title, width=4.8)
    marks = itertools.cycle("osv^Dx")
    for (name, table), colour, mark in zip(tables.items(), colours(len(tables)), marks, strict=False):
        medians = _median_by_angle(table)
        for axis, column in zip(panels, medians.columns, strict=True):
            # Unfilled markers stay visible where the lines of two transports coincide.
            axis.plot(
                medians.index, medians[column], mark + "-", color=colour, label=name, fillstyle="none", markersize=4
            )
    xlabel = "angle(z_e, z_q) (degrees)"
    panels[0].set(xlabel=xlabel, ylabel=_LABELS["angle_gradients"])
    panels[1].set(xlabel=xlabel, ylabel="‖∇ at z_e‖ / ‖∇ at z_q‖")
    panels[0].legend()
    return figure


def token_histogram(centres: Float[np.ndarray, " B"], counts: Int[np.ndarray, " B"], label: str, title: str) -> Figure:
    """Draw a histogram of one quantity over tokens (matplotlib).

    Args:
        centres: centres of the bins, ascending, at equal distances, in the unit that ``label`` names.
        counts: tokens in each bin.
        label: label of the horizontal axis: the quantity and its unit.
        title: title of the figure.

    Returns:
        One panel, cropped to the occupied bins.

    Example:
        >>> figure = token_histogram(np.array([1.0, 3.0, 5.0]), np.array([4, 2, 0]), "angle (degrees)", "Angles")
        >>> figure.axes[0].get_xlabel()
        'angle (degrees)'
    """
    figure, (axis,) = make_axes(1, title, width=6)
    width = float(centres[1] - centres[0])
    axis.bar(centres, counts, width=width, color=colours(1)[0], linewidth=0)
    _crop(axis, centres, centres[counts > 0], width)
    axis.set(xlabel=label, ylabel="tokens")
    return figure


def _crop(axis: Axes, centres: np.ndarray, occupied: np.ndarray, width: float) -> None:
    """Show the occupied bins and up to two bins beside them."""
    if len(occupied):
        low = max(occupied[0] - 2 * width, centres[0] - width / 2)
        axis.set_xlim(float(low), float(min(occupied[-1] + 2 * width, centres[-1] + width / 2)))


def _median_by_angle(table: pd.DataFrame) -> pd.DataFrame:
    """Medians of gradient angle and length ratio by bins of angle(z_e, z_q); NaN for a bin with too few tokens."""
    bins = (table["angle_codes"] // _BIN_DEGREES * _BIN_DEGREES + _BIN_DEGREES / 2).rename("angle")
    grouped = table.groupby(bins)[["angle_gradients", "length_ratio"]]
    medians = grouped.median().where(grouped.size() >= _MIN_TOKENS)
    return medians.reindex(np.arange(_BIN_DEGREES / 2, 180, _BIN_DEGREES))
