"""What explorers of one or several Runs share."""

from __future__ import annotations

from vqlab.analysis.tokenizer import Tokenizer
from vqlab.widgets.base import Explorer
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
