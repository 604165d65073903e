"""Figure of the study ``health``: what RRT changes, by how evenly straight-through uses the codebook."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING

from vqlab.plots.style import colours, make_axes
from vqlab.studies.health import WITH_RRT
from vqlab.studies.study_table import StudyTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKS = "osD^v<>PX"
_PANELS = {
    "psnr": "change of PSNR (dB)",
    "rfd_classifier": "change of rFD-classifier",
    "cvu": "change of CVU (perplexity / K)",
    "quantization_error": "change of |z_e − z_q|² / |z_e|²",
}


def rotation_benefit(table: StudyTable) -> Figure:
    """Draw what RRT changes against straight-through, by how evenly that one uses the codebook (matplotlib).

    Args:
        table: of the study ``health``, with at least one codebook that both arms trained with a common seed.

    Returns:
        One panel each for the change of PSNR, rFD-classifier, CVU (perplexity / K), and the quantization error
        ‖z_e − z_q‖²/‖z_e‖², paired by seed, with 95 % intervals where there are two seeds or more, over the CVU under
        straight-through. Above the line at 0 RRT has the larger value.

    Raises:
        InputError: if no codebook has a seed in both arms.
    """
    means = table.summary(("cvu",))["cvu"]["mean"]
    names = [name for name in means.index if name + WITH_RRT in means.index]
    title = "RRT − straight-through, by how evenly straight-through uses the codebook"
    figure, panels = make_axes(2, title, rows=2)
    for axis, measure in zip(panels, _PANELS, strict=True):
        for name, mark, colour in zip(names, _MARKS, colours(len(names)), strict=False):
            row = table.difference(name + WITH_RRT, name, [measure]).iloc[0]
            change, low, high = (float(row[column]) for column in ("mean difference", "low", "high"))
            error = None if isnan(low) else [[change - low], [high - change]]
            axis.errorbar([float(means[name])], [change], yerr=error, fmt=mark, color=colour, capsize=3, label=name)
        axis.axhline(0, color="grey", linewidth=1)
        axis.set(xlim=(0, 1), xlabel="CVU under straight-through", ylabel=_PANELS[measure])
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize="small")
    return figure
