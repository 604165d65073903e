"""The figure of the trade-off between pixel and feature quality that a perceptual loss makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vqlab.plots.style import colours, make_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from vqlab.studies.study_table import StudyTable


def perceptual_tradeoff(table: StudyTable, weights: Sequence[float], title: str) -> Figure:
    """Draw PSNR and rFD-classifier by the weight of a perceptual loss, and one against the other (matplotlib).

    Args:
        table: of a Study whose first arms differ in the weight of the perceptual term only.
        weights: the weight of each of these arms, at least 0, in the order of the arms; at least one is above 0.
            Arms after them have other losses.
        title: title of the figure.

    Returns:
        Three panels: PSNR and rFD-classifier by weight, one dot per seed and a line through the means of the arms,
        and the means of both measures against each other, labelled with the weight; a legend names the other
        losses, at most four.
    """
    rows = table.rows[table.rows["error"] == ""]
    weight_of_arm = dict(zip(table.rows["arm"].unique(), weights, strict=False))
    finished = rows[rows["arm"].isin(list(weight_of_arm))]
    means = rows.groupby("arm", sort=False)[["psnr", "rfd_classifier"]].mean()
    by_weight = means[means.index.isin(list(weight_of_arm))]
    measured = [weight_of_arm[arm] for arm in by_weight.index]
    figure, (left, middle, right) = make_axes(3, title)
    panels = ((left, "psnr", "PSNR (dB)"), (middle, "rfd_classifier", "rFD-classifier"))
    for (axis, name, label), colour in zip(panels, colours(2), strict=True):
        axis.plot([weight_of_arm[arm] for arm in finished["arm"]], finished[name], "o", color=colour, alpha=0.6)
        axis.plot(measured, by_weight[name], "-", color=colour)
        axis.set(xlabel="weight of the perceptual term", ylabel=label)
        _scale_weights(axis, weights)
    right.plot(by_weight["psnr"], by_weight["rfd_classifier"], "o-", color=colours(3)[2])
    for weight, (_, row) in zip(measured, by_weight.iterrows(), strict=True):
        right.annotate(f"{weight:g}", (row["psnr"], row["rfd_classifier"]), textcoords="offset points", xytext=(5, 5))
    others = means.drop(by_weight.index)
    for marker, colour, (arm, row) in zip("s^Dv", colours(7)[3:], others.iterrows(), strict=False):
        right.plot(row["psnr"], row["rfd_classifier"], marker, color=colour, label=str(arm))
    if len(others):
        right.legend(fontsize=8)
    right.margins(0.15)
    right.set(xlabel="PSNR (dB), higher is better", ylabel="rFD-classifier, lower is better", title="label: weight")
    return figure


def _scale_weights(axis: Axes, weights: Sequence[float]) -> None:
    """Logarithmic weights with 0 at the left, labelled at the weights only."""
    from matplotlib.ticker import NullLocator

    axis.set_xscale("symlog", linthresh=min(weight for weight in weights if weight))
    axis.set_xticks(list(weights), [f"{weight:g}" for weight in weights])
    axis.xaxis.set_minor_locator(NullLocator())
