"""Explorer of the gradient at the quantizer: logged histograms, and those of any transport in the trained model."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int64

from vqlab.analysis.transport_probe import probe_transports
from vqlab.errors import InputError
from vqlab.quantize import transport_names
from vqlab.training.gradients import HISTOGRAM_EDGES, gradient_histograms
from vqlab.widgets.checks import check_one_of, check_range
from vqlab.widgets.choices import LOGGED, QUANTITIES
from vqlab.widgets.plane import PlaneExplorer
from vqlab.widgets.run_sources import Runs
from vqlab.widgets.runs_explorer import RunsExplorer

if TYPE_CHECKING:
    import ipywidgets
    import pandas as pd
    from matplotlib.figure import Figure


class GradientExplorer(RunsExplorer):
    """Show histograms over tokens of angles and lengths of the gradient at the quantizer.

    Keys of ``state``:

    - ``run``: name of the Run.
    - ``transport``: ``as logged`` for the histograms that the training logged, or the name of a transport, whose
      gradients are then computed in the trained model on 128 training images.
    - ``step``: index among the logged steps, from 0; at first the last one. Used with ``as logged`` only.
    - ``quantity``: what is counted: ``angle_gradients``, ``angle_codes``, ``angle_at_q``, ``angle_at_e`` (degrees),
      ``log_rescale`` or ``log_length_ratio`` (logarithms to base 10).

    Args:
        runs: a Run or the folder of one, a sequence of these, or a mapping of names to these. Without a mapping a
            Run is named after its transport and its id.
        **state: initial values of keys of ``state``.

    Attributes:
        plane_explorer: the PlaneExplorer that the live view shows below the histogram; it has its own state.

    Raises:
        InputError: if ``runs`` is empty or holds anything but Runs and Run folders, a Run has no logged histograms,
            or a value of ``state`` is not allowed.
    """

    def __init__(self, runs: Runs, **state: Any) -> None:
        super().__init__(runs)
        self.plane_explorer = PlaneExplorer()
        self._logged: dict[str, pd.DataFrame] = {}
        self._probed: dict[tuple[str, str], dict[str, list[int]]] = {}
        name = self._sources.names[0]
        last = len(self.logged_histograms(name)) - 1
        self.state = {"run": name, "transport": LOGGED, "step": last, "quantity": "angle_gradients"}
        self.state = state

    @cached_property
    def transports(self) -> list[str]:
        """Allowed values of the key ``transport``: ``as logged`` and every registered transport."""
        return [LOGGED, *transport_names()]

    def logged_histograms(self, run: str) -> pd.DataFrame:
        """Read the logged histograms of a Run; the file is read once.

        Args:
            run: name of the Run.

        Returns:
            One row for each logged step, as ``Run.angles`` returns it.

        Raises:
            InputError: if the Run has no logged histograms.
        """
        if run not in self._logged:
            rows = self._sources.runs[run].angles()
            if not len(rows):
                raise InputError(f"run {self._sources.runs[run].folder}: no histograms in angles.jsonl; train it again")
            self._logged[run] = rows
        return self._logged[run]

    def histogram(self) -> tuple[Float[np.ndarray, " B"], Int64[np.ndarray, " B"], str]:
        """Return the selected histogram.

        Returns:
            Centres of the bins (in the unit of the quantity), tokens in each bin, and a caption that names the source.
        """
        state = self.state
        edges = HISTOGRAM_EDGES[state["quantity"]].numpy()
        if state["transport"] == LOGGED:
            row = self.logged_histograms(state["run"]).iloc[state["step"]]
            counts = row[state["quantity"]]
            transport = self._sources.runs[state["run"]].config.quantizer.transport
            caption = f"training step {int(row['step']) + 1}, {transport}"
        else:
            counts = self._probe_histograms(state["run"], state["transport"])[state["quantity"]]
            caption = f"trained model with transport {state['transport']}"
        return (edges[:-1] + edges[1:]) / 2, np.array(counts), caption

    def figure(self) -> Figure:
        """Draw the selected histogram."""
        from vqlab.plots import token_histogram

        centres, counts, caption = self.histogram()
        return token_histogram(centres, counts, QUANTITIES[self.state["quantity"]], caption)

    def _probe_histograms(self, run: str, transport: str) -> dict[str, list[int]]:
        if (run, transport) not in self._probed:
            import torch

            table = probe_transports(self._sources.runs[run], [transport])[transport]
            records = {name: torch.tensor(table[name].to_numpy()) for name in table.columns}
            self._probed[run, transport] = gradient_histograms(records)
        return self._probed[run, transport]

    def _validated(self, state: dict[str, Any], changed: set[str]) -> dict[str, Any]:
        check_one_of("run", state["run"], self._sources.names)
        check_one_of("transport", state["transport"], self.transports)
        check_one_of("quantity", state["quantity"], QUANTITIES)
        last = len(self.logged_histograms(state["run"])) - 1
        if "run" in changed and "step" not in changed:
            state["step"] = min(state["step"], last)
        check_range("step", state["step"], 0, last)
        return {**state, "step": int(state["step"])}

    def _build(self) -> ipywidgets.Widget:
        from vqlab.widgets.gradient_view import GradientView

        self._view = GradientView(self)
        return self._view.box

    def _refresh(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self._view.update(old, new)
