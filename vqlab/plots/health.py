"""Figure of the study ``health``: what RRT changes, by how well straight-through uses the codebook."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING

from vqlab.plots.style import colours, make_axes
from vqlab.studies.health import WITH_RRT
from vqlab.studies.measures import CODE_MEASURES, MEASURES
from vqlab.studies.study_table import StudyTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKS = "osD^v<>PX"
_LABELS = {**MEASURES, **CODE_MEASURES}
_PANELS = ("psnr", "perplexity", "quantization_error")


def rotation_benefit(table: StudyTable) -> Figure:
    """Draw what RRT changes against straight-through, by how much of the codebook that one uses (matplotlib).

    Args:
        table: of the study ``health``, with at least one codebook that both arms trained with a common seed.

    Returns:
        Three panels: the change of PSNR, of perplexity, and of the quantization error ‖z_e − z_q‖²/‖z_e‖², paired by
        seed, with 95 % intervals where there are two seeds or more, over the utilisation under straight-through. Above
        the line at 0 RRT has the larger value.

    Raises:
        InputError: if no codebook has a seed in both arms.
    """
    arms = table.summary(("utilisation",))["utilisation"]["mean"]
    names = [name for name in arms.index if name + WITH_RRT in arms.index]
    figure, panels = make_axes(
        len(_PANELS), "RRT − straight-through, by the use of the codebook under straight-through"
    )
    for axis, measure in zip(panels, _PANELS, strict=True):
        for name, mark, colour in zip(names, _MARKS, colours(len(names)), strict=False):
            row = table.difference(name + WITH_RRT, name, [measure]).iloc[0]
            change, low, high = (float(row[column]) for column in ("mean difference", "low", "high"))
            error = None if isnan(low) else [[change - low], [high - change]]
            used = 100 * float(arms[name])
            axis.errorbar([used], [change], yerr=error, fmt=mark, color=colour, capsize=3, label=name)
        axis.axhline(0, color="grey", linewidth=1)
        axis.set(
            xscale="log", xlabel="codes in use under\nstraight-through (%)", ylabel=f"change of {_LABELS[measure]}"
        )
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize="small")
    return figure
