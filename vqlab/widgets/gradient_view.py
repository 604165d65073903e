"""The page of GradientExplorer: a histogram, and what to choose it by."""

from __future__ import annotations

from typing import Any, Protocol

import ipywidgets as w
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float, Int64

from vqlab.widgets.charts import BLUE, chart, redraw
from vqlab.widgets.choices import LOGGED, QUANTITIES
from vqlab.widgets.layout import column, named, row
from vqlab.widgets.plane import PlaneExplorer
from vqlab.widgets.view import ExplorerState, View


class GradientState(ExplorerState, Protocol):
    """What the view reads of a GradientExplorer."""

    plane_explorer: PlaneExplorer

    @property
    def run_names(self) -> list[str]:
        """Names of the Runs."""

    @property
    def transports(self) -> list[str]:
        """``as logged`` and every registered transport."""

    def log(self, run: str) -> pd.DataFrame:
        """The logged histograms of a Run."""

    def histogram(self) -> tuple[Float[np.ndarray, " B"], Int64[np.ndarray, " B"], str]:
        """Centres of the bins, tokens in each, and a caption."""


class GradientView(View):
    """Controls above, the histogram and the playground below."""

    explorer: GradientState

    def __init__(self, explorer: GradientState) -> None:
        super().__init__(explorer)
        wide = {"style": {"description_width": "initial"}}
        labels = [(label, name) for name, label in QUANTITIES.items()]
        self.run = named("run", w.Dropdown(options=explorer.run_names, description="run", **wide))
        self.transport = named("transport", w.Dropdown(options=explorer.transports, description="transport", **wide))
        self.quantity = named("quantity", w.Dropdown(options=labels, description="quantity", **wide))
        self.quantity.layout.width = "340px"
        self.step = named("step", w.IntSlider(description="logged step", min=0, max=0, **wide))
        for key in ("run", "transport", "quantity", "step"):
            self.bind(getattr(self, key), key)
        self.bars = named("angles", chart([go.Bar(marker={"color": BLUE})], "", "", "tokens"))
        self.box = column(
            row(self.run, self.transport, self.quantity, self.step), self.bars, explorer.plane_explorer.view
        )

    def draw(self, state: dict[str, Any], differs: set[str]) -> None:
        """The histogram of the state."""
        self.step.max = len(self.explorer.log(state["run"])) - 1
        self.step.disabled = state["transport"] != LOGGED
        middles, counts, told = self.explorer.histogram()
        with redraw(self.bars) as figure:
            figure.data[0].x, figure.data[0].y = middles.tolist(), counts.tolist()
            figure.layout.title.text = f"{counts.sum()} tokens, {told}"
            figure.layout.xaxis.title.text = QUANTITIES[state["quantity"]]
            occupied = middles[counts > 0]
            if len(occupied):
                reach = (middles[1] - middles[0]) * 2
                figure.layout.xaxis.range = [float(occupied[0] - reach), float(occupied[-1] + reach)]
