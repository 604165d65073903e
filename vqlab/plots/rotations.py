"""Figures that compare the forms of the rotation: rounding error near 180°, and the cost of the backward rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vqlab.plots.style import colours, label_log_ticks, make_axes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def near_antipodal_errors(table: pd.DataFrame) -> Figure:
    """Draw the float32 error of the rotation, and its fallbacks, as the angle between e and q nears 180° (matplotlib).

    Args:
        table: rows of ``vqlab.analysis.rotations.antipodal_rounding_errors``.

    Returns:
        Two panels by the distance of angle(e, q) from 180°: the median relative error of the Householder form
        (``rotation``) and of the Rodrigues form, where fewer than half of the vectors fall back to straight-through;
        and the share of vectors that do.
    """
    figure, (error, fallback) = make_axes(2, "Rotation of nearly antipodal vectors: rounding error and fallback")
    for form, colour, mark in zip(("rotation", "rodrigues"), colours(2), "ox", strict=True):
        rows = table[table["fallback_share"] < 0.5]
        error.plot(rows["gap"], rows[form], f"{mark}-", color=colour, label=form)
    xlabel = "180° − angle(e, q) (degrees)"
    error.set(xscale="log", yscale="log", xlabel=xlabel, ylabel="median relative error (float32)")
    error.legend()
    fallback.plot(table["gap"], table["fallback_share"], color=colours(3)[2])
    fallback.set(xscale="log", xlabel=xlabel, ylabel="share of vectors that fall\nback to straight-through")
    return figure


def backward_costs(table: pd.DataFrame) -> Figure:
    """Draw the time of the backward rule of each transport by the dimension D (matplotlib).

    Args:
        table: rows of ``vqlab.analysis.rotations.backward_cost``.

    Returns:
        One panel for each number of vectors N, on logarithmic axes.
    """
    counts, dims = sorted(table["N"].unique()), sorted(table["D"].unique())
    figure, panels = make_axes(len(counts), "Time of the backward rule of each transport")
    for axis, count in zip(panels, counts, strict=True):
        part = table[table["N"] == count]
        for form, colour in zip(part["form"].unique(), colours(4), strict=True):
            rows = part[part["form"] == form]
            axis.plot(rows["D"], rows["ms"], "o-", color=colour, label=form)
        axis.set(xscale="log", yscale="log", xlabel="dimension D", ylabel="median time (ms)", title=f"N = {count}")
        label_log_ticks(axis, [int(dim) for dim in dims])
    panels[0].legend()
    return figure
