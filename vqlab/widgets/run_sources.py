"""The Runs that an explorer is given, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vqlab.analysis.tokenizer import Tokenizer
from vqlab.config import DataConfig
from vqlab.data import ImageData
from vqlab.errors import InputError
from vqlab.training import Run

Runs = Run | str | Path | Sequence[Any] | Mapping[str, Any]


class RunSources:
    """Runs by name, opened as tokenizers when first looked at; Runs on the same images share them in memory.

    runs: a Run or its folder, several, or a mapping of names to them. Unnamed Runs are named after their
    transport and id. Raises InputError for no Run at all or a folder without one.
    """

    def __init__(self, runs: Runs) -> None:
        self.runs = _named(runs)
        self._tokenizers: dict[str, Tokenizer] = {}
        self._data: dict[DataConfig, ImageData] = {}

    @property
    def names(self) -> list[str]:
        """The names, in the order given."""
        return list(self.runs)

    def tokenizer(self, name: str) -> Tokenizer:
        """The Run ``name``, opened; raises InputError where it cannot be."""
        if name not in self._tokenizers:
            config = self.runs[name].config.data
            opened = Tokenizer(self.runs[name], self._data.get(config))
            self._data[config] = opened.data
            self._tokenizers[name] = opened
        return self._tokenizers[name]


def _named(runs: Runs) -> dict[str, Run]:
    if isinstance(runs, Mapping):
        named = {str(name): _opened(run) for name, run in runs.items()}
    else:
        several = [runs] if isinstance(runs, Run | str | Path) else list(runs)
        opened = [_opened(run) for run in several]
        named = {f"{run.config.quantizer.transport} ({run.config.id})": run for run in opened}
    if not named:
        raise InputError("runs: give at least one Run, or the folder of one")
    return named


def _opened(run: Any) -> Run:
    if isinstance(run, Run):
        return run
    if isinstance(run, str | Path):
        return Run.open(run)
    raise InputError(f"runs: {run!r} is neither a Run nor the folder of one")
