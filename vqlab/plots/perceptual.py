"""The figure of a perceptual loss: what its weight costs in pixels and buys in features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vqlab.plots.style import colours, make_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vqlab.studies.study import StudyTable


def perceptual_tradeoff(table: StudyTable, weights: Sequence[float], title: str) -> Figure:
    """PSNR and rFD-classifier by the weight of the perceptual term, and one against the other; a dot a seed.

    weights: of the Study's arms, in their order.
    """
    good = table.rows[table.rows["error"] == ""]
    place = dict(zip(table.rows["arm"].unique(), weights, strict=True))
    means = good.groupby("arm", sort=False)[["psnr", "rfd_classifier"]].mean()
    known = [place[arm] for arm in means.index]
    figure, (left, middle, right) = make_axes(3, title)
    panels = ((left, "psnr", "PSNR (dB)"), (middle, "rfd_classifier", "rFD-classifier"))
    for (axis, name, label), colour in zip(panels, colours(2), strict=True):
        axis.plot([place[arm] for arm in good["arm"]], good[name], "o", color=colour, alpha=0.6)
        axis.plot(known, means[name], "-", color=colour)
        axis.set_xscale("symlog", linthresh=min(weight for weight in weights if weight))
        axis.set(xlabel="weight of the perceptual term", ylabel=label)
    right.plot(means["psnr"], means["rfd_classifier"], "o-", color=colours(3)[2])
    for weight, (_, row) in zip(known, means.iterrows(), strict=True):
        right.annotate(f"{weight:g}", (row["psnr"], row["rfd_classifier"]), textcoords="offset points", xytext=(5, 5))
    right.margins(0.12)
    right.set(xlabel="PSNR (dB), higher is better", ylabel="rFD-classifier, lower is better")
    return figure
