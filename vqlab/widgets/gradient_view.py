"""Live view of GradientExplorer: a histogram with its controls, and the plane below it."""

from __future__ import annotations

from typing import Any, Protocol

import ipywidgets as w
import numpy as np
import pandas as pd
from jaxtyping import Float, Int64

from vqlab.widgets.chart import BLUE, Chart
from vqlab.widgets.choices import LOGGED, QUANTITIES
from vqlab.widgets.layout import column, control_bar, panels, with_class
from vqlab.widgets.plane import PlaneExplorer
from vqlab.widgets.view import ExplorerState, View


class GradientState(ExplorerState, Protocol):
    """Members of a GradientExplorer that its view uses.

    Attributes:
        plane_explorer: the explorer shown below the histogram.
    """

    plane_explorer: PlaneExplorer

    @property
    def run_names(self) -> list[str]:
        """Names of the Runs."""

    @property
    def transports(self) -> list[str]:
        """``as logged`` and every registered transport."""

    def logged_histograms(self, run: str) -> pd.DataFrame:
        """Logged histograms of a Run."""

    def histogram(self) -> tuple[Float[np.ndarray, " B"], Int64[np.ndarray, " B"], str]:
        """Centres of the bins, tokens in each, and a caption."""


class GradientView(View):
    """Controls above; the histogram and the plane.

    Args:
        explorer: the explorer to show.
    """

    explorer: GradientState

    def __init__(self, explorer: GradientState) -> None:
        super().__init__(explorer)
        labels = [(label, name) for name, label in QUANTITIES.items()]
        self.run = with_class("run", w.Dropdown(options=explorer.run_names, description="run"))
        self.transport = with_class("transport", w.Dropdown(options=explorer.transports, description="transport"))
        self.quantity = with_class("quantity", w.Dropdown(options=labels, description="quantity"))
        self.step = with_class("step", w.IntSlider(description="logged step", min=0, max=0))
        for key in ("run", "transport", "quantity", "step"):
            self.bind(getattr(self, key), key)
        self.bars = with_class("angles", Chart([("", "tokens")]))
        bar = control_bar(self.run, self.transport, self.quantity, self.step)
        self.box = column(panels(column(bar, self.bars), explorer.plane_explorer.view))

    def draw(self, state: dict[str, Any], changed: set[str]) -> None:
        """Draw the selected histogram; its horizontal axis covers the bins that hold tokens."""
        self.step.max = len(self.explorer.logged_histograms(state["run"])) - 1
        self.step.disabled = state["transport"] != LOGGED
        centres, counts, caption = self.explorer.histogram()
        bars = {"type": "bar", "x": centres.tolist(), "y": counts.tolist(), "marker": {"color": BLUE}}
        layout: dict[str, Any] = {
            "title_text": f"{counts.sum()} tokens, {caption}",
            "xaxis_title_text": QUANTITIES[state["quantity"]],
        }
        occupied = centres[counts > 0]
        if len(occupied):
            margin = (centres[1] - centres[0]) * 2
            layout["xaxis_range"] = [float(occupied[0] - margin), float(occupied[-1] + margin)]
        self.bars.show([bars], **layout)
