"""Grids: every combination of some Config values, each trained once, by any number of workers."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqlab.config import Config
from vqlab.errors import InputError
from vqlab.quantize.usage import code_bits
from vqlab.studies.commands import train_command
from vqlab.studies.leases import has_error, is_active, point_name, point_of
from vqlab.studies.storage import storage_errors
from vqlab.studies.study import MEASURES
from vqlab.studies.worker import Worker, short_name

if TYPE_CHECKING:
    import pandas as pd
    from optuna import Trial
    from optuna.trial import FrozenTrial

RATES = {"fixed_bits": "bits an image (fixed length)", "entropy_bits": "bits an image (entropy)"}
Value = bool | int | float | str | None


@dataclass(frozen=True)
class Grid:
    """All combinations of ``axes`` (dotted Config fields and their values) as changes to ``base``.

    Raises InputError for no axes, an axis without values or with one twice, a field that does not exist, or a
    combination that the Config refuses.
    """

    name: str
    base: Config
    axes: Mapping[str, Sequence[Value]]

    def __post_init__(self) -> None:
        if not self.axes:
            raise InputError(f"grid {self.name}: has no axes; give at least one, as quantizer.decay=[0.95,0.99]")
        for axis, values in self.axes.items():
            if not values or len(set(values)) < len(values):
                raise InputError(f"grid {self.name}: axis {axis} needs at least one value, and none twice")
        self.configs()

    def points(self) -> list[dict[str, Value]]:
        """Every point as changes, the last axis fastest."""
        return [dict(zip(self.axes, values, strict=True)) for values in itertools.product(*self.axes.values())]

    def configs(self) -> list[Config]:
        """The Config of every point, in the order of ``points``."""
        return [self.base.replace(**point) for point in self.points()]

    @property
    def study_name(self) -> str:
        """The grid's name and a hash of base and axes: another base or other values are another study."""
        axes = {axis: list(values) for axis, values in self.axes.items()}
        return f"{self.name}-{hashlib.sha256(json.dumps([self.base.id, axes]).encode()).hexdigest()[:12]}"

    def run(
        self, root: str | Path = "runs", device: str | None = None, log: Callable[[str], None] | None = None,
        *, storage: str | None = None, retry: bool = False,
    ) -> GridTable:  # fmt: skip
        """Work on the grid until every point is finished, by this worker or by others; returns the table.

        Call it from as many processes as wished with one ``root`` (or ``storage``, a database's URL): each point
        is trained once, points of killed workers are taken over, and what is finished stays. A point whose
        training fails keeps its reason in ``error``; retry: such points of earlier calls are tried again.
        say: called with a line for each point that this worker finishes. Raises InputError for a storage out of
        reach.
        """
        with storage_errors(storage):
            worker = _GridWorker(self, Path(root), device, log, storage, retry=retry)
            worker.work()
            return worker.table()

    def table(self, root: str | Path = "runs", *, storage: str | None = None) -> GridTable:
        """What is known of every point so far; nothing is trained."""
        with storage_errors(storage):
            return _GridWorker(self, Path(root), None, None, storage).table()


class _GridWorker(Worker):
    """Queues every point of the grid once."""

    def __init__(
        self, grid: Grid, root: Path, device: str | None, log: Callable[[str], None] | None, storage: str | None,
        *, retry: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(grid.study_name, root, device, log, storage)
        self.grid, self.retry = grid, retry
        self.points = {point_name(point): point for point in grid.points()}
        self.size = len(self.points)

    def queue(self) -> None:
        """Queue the points that have no trial; once, those that failed too if asked."""
        self.leases.enqueue(self.points, retry=self.retry)
        self.retry = False

    def config(self, trial: Trial) -> Config:
        """The base with the trial's point."""
        point = {axis: trial.suggest_categorical(axis, values) for axis, values in self.grid.axes.items()}
        return self.grid.base.replace(**point)

    def table(self) -> GridTable:
        """The best known trial of every point: a standing one, else one that says why it failed."""
        import pandas as pd

        found: dict[str, FrozenTrial] = {}
        for trial in sorted(
            self.leases.trials(), key=lambda trial: (is_active(trial), has_error(trial), -trial.number)
        ):
            found[point_of(trial)] = trial
        rows = [
            {**point, **_row(found.get(name), config)}
            for (name, point), config in zip(self.points.items(), self.grid.configs(), strict=True)
        ]
        return GridTable(self.grid, pd.DataFrame(rows), self.root)


def _row(trial: FrozenTrial | None, config: Config) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys((*MEASURES, *RATES), math.nan)
    row |= {"run": "", "data": "", "error": "not finished yet"}
    if trial is None or trial.state.name != "COMPLETE":
        return row if trial is None or not has_error(trial) else {**row, "error": trial.user_attrs["error"]}
    measured = trial.user_attrs["row"]
    known = {name: measured[name] for name in (*MEASURES, "run", "data") if name in measured}
    return {**row, **known, **rates(config, measured["perplexity"]), "error": ""}


def rates(config: Config, perplexity: float) -> dict[str, float]:
    """Bits an image: codes an image × log₂ K at fixed length, × log₂ perplexity (of the test set) at the entropy."""
    codes = (config.data.image_size >> config.model.downsample) ** 2
    return {"fixed_bits": codes * code_bits(config.quantizer.num_codes), "entropy_bits": codes * code_bits(perplexity)}


@dataclass(frozen=True)
class GridTable:
    """The measured points of a Grid: ``rows`` has one row a point, in its order (axes, run, error, MEASURES, RATES)."""

    grid: Grid
    rows: pd.DataFrame
    root: Path

    def finished_rows(self) -> pd.DataFrame:
        """The finished rows; raises InputError with the reasons where there is none."""
        finished_rows = self.rows[self.rows["error"] == ""]
        if finished_rows.empty:
            raise InputError(f"grid {self.grid.name}: no point is finished: {'; '.join(self.rows['error'].unique())}")
        return finished_rows

    def best(self, measure: str = "psnr") -> Config:
        """The Config of the row with the largest ``measure``; the first of equals."""
        values = self.rows[measure].where(self.rows["error"] == "")
        self.finished_rows()
        return self.grid.configs()[int(values.argmax())]

    def effects(self, measures: Sequence[str] = ("psnr", "perplexity", "utilisation")) -> pd.DataFrame:
        """Each axis apart from the others: the mean of every measure over the finished points with each value."""
        import pandas as pd

        finished_rows = self.finished_rows()
        parts = {
            short_name(axis): finished_rows.groupby(axis, sort=False)[list(measures)].mean() for axis in self.grid.axes
        }
        return pd.concat(parts, names=["axis", "value"]).rename(columns=MEASURES)

    def command(self, measure: str = "psnr") -> str:
        """The command that gives the best row's Run again."""
        return train_command(self.best(measure))

    def formatted(self, measures: Sequence[str] = (*MEASURES, "entropy_bits")) -> pd.DataFrame:
        """The rows for reading: short axis names, columns by their labels, best PSNR first; failures say why.

        A measure that no point has is left out: grids read what the loop logged, without costlier distances.
        """
        failed = ["error"] if (self.rows["error"] != "").any() else []
        names = {**MEASURES, **RATES, **{axis: short_name(axis) for axis in self.grid.axes}}
        ordered = self.rows.sort_values("psnr", ascending=False)
        known = [measure for measure in measures if ordered[measure].notna().any()]
        return ordered[[*self.grid.axes, *known, *failed]].rename(columns=names).reset_index(drop=True)
