"""Figures of the forms of the rotation: near opposite vectors, and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vqlab.plots.style import colours, make_axes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def near_antipodal_errors(table: pd.DataFrame) -> Figure:
    """``rotations.near_opposite`` drawn: float32 error, and the share that falls back, by gap to 180°."""
    figure, (left, right) = make_axes(2, "Near opposite vectors the rotation loses its digits, then its meaning")
    for form, colour, mark in zip(("rotation", "rodrigues"), colours(2), "ox", strict=True):
        kept = table[table["fallback_share"] < 0.5]
        left.plot(kept["gap"], kept[form], f"{mark}-", color=colour, label=form)
    left.set(xscale="log", yscale="log", xlabel="180° − angle(e, q) (degrees)", ylabel="relative error (float32)")
    left.legend()
    right.plot(table["gap"], table["fallback_share"], color=colours(3)[2])
    right.set(xscale="log", xlabel="180° − angle(e, q) (degrees)", ylabel="straight-through instead (share)")
    return figure


def backward_costs(table: pd.DataFrame) -> Figure:
    """``rotations.cost`` drawn: milliseconds by dimension, a panel for each number of vectors."""
    counts, dims = sorted(table["N"].unique()), sorted(table["D"].unique())
    figure, panels = make_axes(len(counts), "Cost of the backward rule")
    for axis, count in zip(panels, counts, strict=True):
        part = table[table["N"] == count]
        for form, colour in zip(part["form"].unique(), colours(4), strict=True):
            rows = part[part["form"] == form]
            axis.plot(rows["D"], rows["ms"], "o-", color=colour, label=form)
        axis.set(xscale="log", yscale="log", xlabel="dimension D", ylabel="median time (ms)", title=f"N = {count}")
        axis.set_xticks(dims, [str(dim) for dim in dims])
        axis.minorticks_off()
    panels[0].legend()
    return figure
