"""The figure of the quantizer's cost by codebook size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vqlab.plots.style import colours, label_log_ticks, make_axes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def layer_costs(table: pd.DataFrame) -> Figure:
    """Draw time and memory of one training step of the quantizer by the number of codes K (matplotlib).

    Args:
        table: rows of ``vqlab.analysis.layer_cost.layer_cost``, at least one.

    Returns:
        Two panels on logarithmic axes: the median time; the peak memory of the step with the sizes of the
        distance matrix N×K and of the codebook K×D.
    """
    title = f"One training step of the quantizer alone: {table['tokens'][0]} vectors, D = {table['D'][0]}"
    figure, (time, memory) = make_axes(2, title, height=3.8)
    time.plot(table["K"], table["ms"], "o-")
    time.set(ylabel="median time (ms)")
    memory.plot(table["K"], table["mib"], "o-", label="peak memory of the step")
    memory.plot(table["K"], table["matrix_mib"], "s:", color="0.5", label="matrix of all distances, N×K")
    memory.plot(table["K"], table["codebook_mib"], "^--", color=colours(3)[2], label="codebook, K×D")
    memory.set(ylabel="memory (MiB)")
    figure.legend(*memory.get_legend_handles_labels(), loc="outside lower right", ncols=3)
    for axis in (time, memory):
        axis.set(xscale="log", yscale="log", xlabel="number of codes K")
        label_log_ticks(axis, table["K"].tolist())
    return figure
