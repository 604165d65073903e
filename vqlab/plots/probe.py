"""Figures of what a probe recorded."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from vqlab.plots.style import make_axes
from vqlab.probe import COLUMNS, Probe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = ("angle_gradients", "length_ratio", "angle_codes", "rescale")


def probe_histograms(probe: Probe) -> Figure:
    """Histograms over all recorded tokens: angles, lengths of the gradient, and λ.

    Args:
        probe: with at least one recorded forward pass.

    Returns:
        One panel for each quantity that is not 0 throughout.

    Raises:
        InputError: the probe recorded nothing.
    """
    table = probe.table()
    shown = [name for name in _SHOWN if table[name].any()]
    title = f"{type(probe.module).__name__}: {len(table)} tokens in {table['call'].nunique()} passes"
    figure, panels = make_axes(len(shown), title, width=4, height=3.2)
    for axis, name in zip(panels, shown, strict=True):
        axis.hist(table[name].dropna(), bins=60)
        axis.set(xlabel=textwrap.fill(COLUMNS[name], 32), ylabel="tokens")
    return figure
