"""The angles of the gradient: step by step as they were logged, or for any transport in the trained model."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int64

from vqlab.analysis.transport_probe import probe_transports
from vqlab.errors import InputError
from vqlab.quantize import transport_names
from vqlab.training.gradients import HISTOGRAM_EDGES, histograms
from vqlab.widgets.base import Explorer, in_range, one_of
from vqlab.widgets.choices import LOGGED, QUANTITIES
from vqlab.widgets.plane import PlaneExplorer
from vqlab.widgets.run_sources import Runs, RunSources

if TYPE_CHECKING:
    import ipywidgets
    import pandas as pd
    from matplotlib.figure import Figure


class GradientExplorer(Explorer):
    """Histograms over tokens of what happened to the gradient at the quantizer.

    runs: as for ReconstructionExplorer. state: run (its name); transport: ``as logged`` (the Run's own, at each
    logged step), or a transport's name (what it would do in the trained model); step (place among the logged
    steps, from 0, at first the last); quantity (a key of QUANTITIES).
    ``playground``: the plane below it, with a state of its own.
    """

    def __init__(self, runs: Runs, **state: Any) -> None:
        super().__init__()
        self._sources = RunSources(runs)
        self.plane_explorer = PlaneExplorer()
        self._logs: dict[str, pd.DataFrame] = {}
        self._probed: dict[tuple[str, str], dict[str, list[int]]] = {}
        name = self._sources.names[0]
        self.state = {"run": name, "transport": LOGGED, "step": len(self.log(name)) - 1, "quantity": "angle_gradients"}
        self.state = state

    @property
    def run_names(self) -> list[str]:
        """Names of the Runs, in the order given."""
        return self._sources.names

    @cached_property
    def transports(self) -> list[str]:
        """``as logged`` and every registered transport."""
        return [LOGGED, *transport_names()]

    def log(self, run: str) -> pd.DataFrame:
        """The logged histograms of ``run``, read once; raises InputError where it has none."""
        if run not in self._logs:
            rows = self._sources.runs[run].angles()
            if not len(rows):
                raise InputError(f"run {self._sources.runs[run].folder}: no angles.jsonl; train it again")
            self._logs[run] = rows
        return self._logs[run]

    def histogram(self) -> tuple[Float[np.ndarray, " B"], Int64[np.ndarray, " B"], str]:
        """Middles of the bins, tokens in each, and where they are from."""
        state = self.state
        edges = HISTOGRAM_EDGES[state["quantity"]].numpy()
        if state["transport"] == LOGGED:
            row = self.log(state["run"]).iloc[state["step"]]
            told = (
                f"training step {int(row['step']) + 1}, {self._sources.runs[state['run']].config.quantizer.transport}"
            )
            counts = row[state["quantity"]]
        else:
            counts = self._probe(state["run"], state["transport"])[state["quantity"]]
            told = f"trained model, as {state['transport']} would do"
        return (edges[:-1] + edges[1:]) / 2, np.array(counts), told

    def figure(self) -> Figure:
        """The histogram that is chosen."""
        from vqlab.plots import angle_histogram

        middles, counts, told = self.histogram()
        return angle_histogram(middles, counts, QUANTITIES[self.state["quantity"]], told)

    def _probe(self, run: str, kind: str) -> dict[str, list[int]]:
        if (run, kind) not in self._probed:
            import torch

            table = probe_transports(self._sources.runs[run], [kind])[kind]
            records = {name: torch.tensor(table[name].to_numpy()) for name in table.columns}
            self._probed[run, kind] = histograms(records)
        return self._probed[run, kind]

    def _validated(self, state: dict[str, Any], changed: set[str]) -> dict[str, Any]:
        one_of("run", state["run"], self._sources.names)
        one_of("transport", state["transport"], self.transports)
        one_of("quantity", state["quantity"], QUANTITIES)
        last = len(self.log(state["run"])) - 1
        if "run" in changed and "step" not in changed:
            state["step"] = min(state["step"], last)
        in_range("step", state["step"], 0, last)
        return {**state, "step": int(state["step"])}

    def _build(self) -> ipywidgets.Widget:
        from vqlab.widgets.gradient_view import GradientView

        self._view = GradientView(self)
        return self._view.box

    def _refresh(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self._view.show(old, new)
