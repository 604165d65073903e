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
    """Draw histograms over all recorded tokens: both angles, the ratio of gradient lengths, and λ (matplotlib).

    Args:
        probe: with at least one recorded forward pass.

    Returns:
        One panel for each quantity that is not 0 for all tokens.

    Raises:
        InputError: if the probe recorded nothing.
    """
    table = probe.table()
    shown = [name for name in _SHOWN if table[name].any()]
    title = f"{type(probe.module).__name__}: {len(table)} tokens, forward passes: {table['call'].nunique()}"
    figure, panels = make_axes(len(shown), title, width=4, height=3.2)
    for axis, name in zip(panels, shown, strict=True):
        axis.hist(table[name].dropna(), bins=60)
        axis.set(xlabel=textwrap.fill(COLUMNS[name], 32), ylabel="tokens")
    return figure
