"""Runs of an explorer by name, with lazily opened models and shared images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vqlab.analysis.code_places import CodePlaces
from vqlab.analysis.tokenizer import Tokenizer
from vqlab.config import DataConfig
from vqlab.data import ImageData
from vqlab.errors import InputError
from vqlab.training import Run

Runs = Run | str | Path | Sequence[Any] | Mapping[str, Any]


class RunSources:
    """Runs by name; each is opened as a Tokenizer at first use, and Runs with equal DataConfig share their images.

    Args:
        runs: a Run or the folder of one, a sequence of these, or a mapping of names to these. Without a mapping a
            Run is named after its transport and its id.

    Attributes:
        runs: the Runs by name, in the given order.

    Raises:
        InputError: if ``runs`` is empty, holds anything but Runs and folders, or a folder holds no Run.
    """

    def __init__(self, runs: Runs) -> None:
        self.runs = _runs_by_name(runs)
        self._tokenizers: dict[str, Tokenizer] = {}
        self._places: dict[str, CodePlaces] = {}
        self._data: dict[DataConfig, ImageData] = {}

    @property
    def names(self) -> list[str]:
        """The names of the Runs, in the given order."""
        return list(self.runs)

    def tokenizer(self, name: str) -> Tokenizer:
        """Return the opened Run of a name.

        Args:
            name: one of ``names``.

        Returns:
            The same Tokenizer at each call.

        Raises:
            InputError: if the Run is not a finished VQ-VAE, is damaged, or its folder no longer exists.
            ChangedDataError: if its images are not those that it was trained on.
        """
        if name not in self._tokenizers:
            config = self.runs[name].config.data
            tokenizer = Tokenizer(self.runs[name], self._data.get(config))
            self.runs[name].compare_data(tokenizer.data)
            self._data[config] = tokenizer.data
            self._tokenizers[name] = tokenizer
        return self._tokenizers[name]

    def places(self, name: str) -> CodePlaces:
        """Return the places of the codes of a Run.

        Args:
            name: one of ``names``.

        Returns:
            The same object at each call.

        Raises:
            InputError: as ``tokenizer``.
            ChangedDataError: as ``tokenizer``.
        """
        if name not in self._places:
            self._places[name] = CodePlaces(self.tokenizer(name))
        return self._places[name]


def _runs_by_name(runs: Runs) -> dict[str, Run]:
    if isinstance(runs, Mapping):
        by_name = {str(name): _open(run) for name, run in runs.items()}
    else:
        opened = [_open(run) for run in ([runs] if isinstance(runs, Run | str | Path) else runs)]
        by_name = {f"{run.config.quantizer.transport} ({run.config.id})": run for run in opened}
    if not by_name:
        raise InputError(f"runs={runs!r}: must hold at least one Run or Run folder")
    return by_name


def _open(run: Any) -> Run:
    if isinstance(run, Run):
        return run
    if isinstance(run, str | Path):
        return Run.open(run)
    raise InputError(f"runs: entry {run!r}: must be a Run or a Run folder")
