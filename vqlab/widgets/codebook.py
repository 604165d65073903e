"""How often each code is used, and what a code stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64

from vqlab.analysis.tokenizer import Tokenizer
from vqlab.widgets.base import Explorer, in_range, one_of
from vqlab.widgets.run_sources import Runs, RunSources

if TYPE_CHECKING:
    import ipywidgets
    from matplotlib.figure import Figure


class CodebookExplorer(Explorer):
    """Usage of the codes by epoch, most used first; a chosen code's decoded patch and the image patches nearest to it.

    runs: as for ReconstructionExplorer. state: run (its name); epoch (from 1); code (0…K−1, at first the one that
    test images use most).
    """

    def __init__(self, runs: Runs, **state: Any) -> None:
        super().__init__()
        self._sources = RunSources(runs)
        name = self._sources.names[0]
        tokenizer = self._sources.tokenizer(name)
        self.state = {"run": name, "epoch": len(tokenizer.usage), "code": int(tokenizer.token_counts().argmax())}
        self.state = state

    @property
    def run_names(self) -> list[str]:
        """Names of the Runs, in the order given."""
        return self._sources.names

    @property
    def tokenizer(self) -> Tokenizer:
        """The Run that is looked at, opened."""
        return self._sources.tokenizer(self.state["run"])

    def usage(self) -> tuple[Int64[np.ndarray, " K"], Int64[np.ndarray, " K"]]:
        """Codes from the most used to the least in the chosen epoch, and each one's tokens."""
        counts = self.tokenizer.usage[self.state["epoch"] - 1]
        order = np.argsort(-counts, kind="stable")
        return order, counts[order]

    def step(self, places: int) -> None:
        """Go ``places`` along the order of use; stays at its ends."""
        order, _ = self.usage()
        place = int(np.flatnonzero(order == self.state["code"])[0]) + places
        self.state = {"code": int(order[min(max(place, 0), len(order) - 1)])}

    def figure(self) -> Figure:
        """The usage with the code marked, its patch, and the image patches nearest to it."""
        from vqlab.plots import code_panels

        return code_panels(self.tokenizer, self.state["epoch"], self.state["code"])

    def _validated(self, state: dict[str, Any], changed: set[str]) -> dict[str, Any]:
        one_of("run", state["run"], self._sources.names)
        epochs, codes = self._sources.tokenizer(state["run"]).usage.shape
        if "run" in changed:
            state["epoch"] = epochs if "epoch" not in changed else state["epoch"]
            state["code"] = min(state["code"], codes - 1) if "code" not in changed else state["code"]
        in_range("epoch", state["epoch"], 1, epochs)
        in_range("code", state["code"], 0, codes - 1)
        return {**state, "epoch": int(state["epoch"]), "code": int(state["code"])}

    def _build(self) -> ipywidgets.Widget:
        from vqlab.widgets.codebook_view import CodebookView

        self._view = CodebookView(self)
        return self._view.box

    def _refresh(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self._view.show(old, new)
