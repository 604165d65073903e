"""Figure of the codebook rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vqlab.plots.style import colours, make_axes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def rule_usage(table: pd.DataFrame) -> Figure:
    """Draw the use of a collapsed codebook after training with each rule (matplotlib).

    Args:
        table: of ``vqlab.analysis.rule_statistics``.

    Returns:
        Bars of the utilisation, with the perplexity beside each.
    """
    figure, (axis,) = make_axes(1, "Codes in use after a collapsed start, by codebook rule", width=6.4)
    positions = range(len(table))
    axis.barh(positions, table["utilisation"], color=colours(1)[0])
    axis.set_yticks(positions, list(table.index))
    axis.invert_yaxis()
    for position, (used, perplexity) in enumerate(zip(table["utilisation"], table["perplexity"], strict=True)):
        axis.text(used + 0.01, position, f"perplexity {perplexity:.0f}", va="center", fontsize="small")
    axis.set(xlabel="utilisation (share of the 64 codes, test vectors)", xlim=(0, 1.3), xticks=(0, 0.25, 0.5, 0.75, 1))
    return figure
