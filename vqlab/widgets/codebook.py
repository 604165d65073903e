"""Explorer of a codebook: usage of the codes by epoch and the image patches of a code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64

from vqlab.widgets.checks import check_one_of, check_range
from vqlab.widgets.run_sources import Runs
from vqlab.widgets.runs_explorer import PlacesExplorer

if TYPE_CHECKING:
    import ipywidgets
    from matplotlib.figure import Figure


class CodebookExplorer(PlacesExplorer):
    """Show how often each code is used in an epoch, the decoded patch of a code and the image patches nearest to it.

    For a vector with several codes these are the codes of one place, a level or head. The places of a fixed code (FSQ,
    LFQ, BSQ) are the whole index, if it has at most 4,096 values, and its scalars or bits.

    Keys of ``state``:

    - ``run``: name of the Run.
    - ``place``: the level, head, scalar or bit, one of ``places.names``; None if a vector has one code.
    - ``epoch``: epoch whose usage is shown, from 1; at first the last epoch.
    - ``code``: the selected code, 0…K−1, or number of the value of a scalar or bit; at first the one that the test
      images use most.

    Args:
        runs: a Run or the folder of one, a sequence of these, or a mapping of names to these. Without a mapping a
            Run is named after its transport and its id.
        **state: initial values of keys of ``state``.

    Raises:
        InputError: if ``runs`` is empty or holds anything but finished VQ-VAE Runs, or a value of ``state`` is not
            allowed.
    """

    def __init__(self, runs: Runs, **state: Any) -> None:
        super().__init__(runs)
        name = state.get("run", self._sources.names[0])
        check_one_of("run", name, self._sources.names)
        place = self._sources.places(name)[state.get("place")]
        self.state = {"run": name, "place": place.name or None, "epoch": len(place.usage),
                      "code": int(place.token_counts().argmax())}  # fmt: skip
        self.state = state

    def usage(self) -> tuple[Int64[np.ndarray, " K"], Int64[np.ndarray, " K"]]:
        """Sort the codes by their usage in the selected epoch.

        Returns:
            The codes, most used first, and the number of training tokens of each.
        """
        counts = self.place.usage[self.state["epoch"] - 1]
        order = np.argsort(-counts, kind="stable")
        return order, counts[order]

    def move_rank(self, offset: int) -> None:
        """Select another code by its rank, where rank 0 is the most used code of the epoch.

        Args:
            offset: added to the rank of the selected code; the result is clipped to 0…K−1.
        """
        order, _ = self.usage()
        rank = int(np.flatnonzero(order == self.state["code"])[0]) + offset
        self.state = {"code": int(order[min(max(rank, 0), len(order) - 1)])}

    def figure(self) -> Figure:
        """Draw the usage with the selected code marked, its patch, and the image patches nearest to it."""
        from vqlab.plots import code_panels

        return code_panels(self.place, self.state["epoch"], self.state["code"])

    def _validated(self, state: dict[str, Any], changed: set[str]) -> dict[str, Any]:
        check_one_of("run", state["run"], self._sources.names)
        epochs = len(self._validate_place(state, changed).usage)
        if "run" in changed and "epoch" not in changed:
            state["epoch"] = epochs
        check_range("epoch", state["epoch"], 1, epochs)
        return {**state, "epoch": int(state["epoch"]), "code": int(state["code"])}

    def _build(self) -> ipywidgets.Widget:
        from vqlab.widgets.codebook_view import CodebookView

        self._view = CodebookView(self)
        return self._view.box

    def _refresh(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self._view.update(old, new)
