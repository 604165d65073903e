"""What explorers of one or several Runs share."""

from __future__ import annotations

from typing import Any

from vqlab.analysis.code_place import CodePlace
from vqlab.analysis.code_places import CodePlaces
from vqlab.analysis.tokenizer import Tokenizer
from vqlab.widgets.base import Explorer
from vqlab.widgets.checks import check_range
from vqlab.widgets.run_sources import Runs, RunSources


class RunsExplorer(Explorer):
    """An explorer of Runs, of which the key ``run`` of its state selects one.

    Args:
        runs: a Run or the folder of one, a sequence of these, or a mapping of names to these. Without a mapping a
            Run is named after its transport and its id.

    Raises:
        InputError: if ``runs`` is empty or holds anything but Runs and Run folders.
    """

    def __init__(self, runs: Runs) -> None:
        super().__init__()
        self._sources = RunSources(runs)

    @property
    def run_names(self) -> list[str]:
        """The names of the Runs, in the given order."""
        return self._sources.names

    @property
    def tokenizer(self) -> Tokenizer:
        """The selected Run, opened as a tokenizer."""
        return self._sources.tokenizer(self.state["run"])

    @property
    def places(self) -> CodePlaces:
        """The places of the codes of the selected Run."""
        return self._sources.places(self.state["run"])


class PlacesExplorer(RunsExplorer):
    """An explorer of Runs, of whose codes the key ``place`` of its state selects a level, head, scalar or bit.

    Args:
        runs: as for ``RunsExplorer``.

    Raises:
        InputError: as ``RunsExplorer``.
    """

    @property
    def place(self) -> CodePlace:
        """The selected place."""
        return self.places[self.state["place"]]

    def _validate_place(self, state: dict[str, Any], changed: set[str]) -> CodePlace:
        """Check ``place``, and keep ``code`` among its values if only the Run or the place changed."""
        places = self._sources.places(state["run"])
        given = state["place"]
        if "run" in changed and "place" not in changed and given not in places.names:
            given = None
        place = places[given]
        state["place"] = place.name or None
        if changed & {"run", "place"} and "code" not in changed:
            state["code"] = min(state["code"], place.size - 1)
        check_range("code", state["code"], 0, place.size - 1)
        return place
