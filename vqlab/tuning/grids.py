"""Grids: every combination of some Config values, each trained once, by any number of workers."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqlab.config import Config
from vqlab.errors import InputError
from vqlab.quantize.usage import code_bits
from vqlab.studies import MEASURES
from vqlab.training import train
from vqlab.tuning.claims import Claims, broken, point_name, point_of, stands, unfinished
from vqlab.tuning.storage import open_storage, storage_errors

if TYPE_CHECKING:
    import pandas as pd
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

    from vqlab.tuning.claims import Held

Value = bool | int | float | str | None
_POLL_SECONDS = 1.0


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
            raise InputError(f"grid {self.name}: has no axes; give at least one, as quantizer.decay=0.95,0.99")
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
        self, root: str | Path = "runs", device: str | None = None, say: Callable[[str], None] | None = None,
        *, storage: str | None = None, retry: bool = False,
    ) -> GridTable:  # fmt: skip
        """Work on the grid until every point is finished, by this worker or by others; returns the table.

        Call it from as many processes as wished with one ``root`` (or ``storage``, a database's URL): each point
        is trained once, points of killed workers are taken over, and what is finished stays. A point whose
        training fails keeps its reason in ``error``; retry: such points of earlier calls are tried again.
        say: called with a line for each point that this worker finishes. Raises InputError for a storage out of
        reach.
        """
        with storage_errors():
            worker = _Worker(self, Path(root), device, say or (lambda line: None), storage)
            worker.work(retry)
            return worker.table()

    def table(self, root: str | Path = "runs", *, storage: str | None = None) -> GridTable:
        """What is known of every point so far; nothing is trained."""
        with storage_errors():
            return _Worker(self, Path(root), None, lambda line: None, storage).table()


class _Worker:
    """One process at work on one grid."""

    def __init__(
        self, grid: Grid, root: Path, device: str | None, say: Callable[[str], None], storage: str | None
    ) -> None:
        import optuna

        self.grid, self.root, self.device, self.say = grid, root, device, say
        self.points = {point_name(point): point for point in grid.points()}
        opened = open_storage(root, storage)
        self.study: Study = optuna.create_study(
            storage=opened, study_name=grid.study_name, load_if_exists=True, direction="maximize",
            sampler=optuna.samplers.RandomSampler(seed=grid.base.seed),
        )  # fmt: skip
        self.claims = Claims(self.study, opened)

    def work(self, retry: bool) -> None:
        """Take points until none is left and none runs elsewhere."""
        while True:
            self.claims.release_lost()
            self.claims.enqueue(self.points, retry)
            retry = False
            trial = self.claims.take()
            if trial is not None:
                with self.claims.holding(trial) as held:
                    self._train(trial, held)
            elif unfinished(self.claims.trials()):
                time.sleep(_POLL_SECONDS)
            else:
                return

    def _train(self, trial: Trial, held: Held) -> None:
        from optuna.trial import TrialState

        point = {axis: trial.suggest_categorical(axis, values) for axis, values in self.grid.axes.items()}
        config = self.grid.base.replace(**point)
        try:
            run = train(config, self.root, self.device, should_stop=lambda: held.lost)
            row = None if held.lost else {**measures(run.evaluation(self.device), run.provenance), "run": config.id}
        except OSError:
            raise
        except Exception as error:
            trial.set_user_attr("error", f"{type(error).__name__}: {error}")
            self.study.tell(trial, state=TrialState.FAIL)
            self._say(point, f"{type(error).__name__}: {error}")
            return
        if row is not None:
            trial.set_user_attr("row", row)
            self.study.tell(trial, row["psnr"])
            self._say(point, f"PSNR {row['psnr']:.2f} dB, perplexity {row['perplexity']:.0f} (test set)")

    def _say(self, point: Mapping[str, Value], outcome: str) -> None:
        done = sum(trial.state.name == "COMPLETE" for trial in self.claims.trials())
        told = ", ".join(f"{short(axis)}={value}" for axis, value in point.items())
        self.say(f"[{done}/{len(self.points)}] {told}: {outcome}")

    def table(self) -> GridTable:
        import pandas as pd

        found: dict[str, FrozenTrial] = {}
        for trial in sorted(self.claims.trials(), key=lambda trial: (stands(trial), broken(trial), -trial.number)):
            found[point_of(trial)] = trial
        rows = [{**point, **_row(found.get(name))} for name, point in self.points.items()]
        return GridTable(self.grid, pd.DataFrame(rows), self.root)


def measures(evaluation: Mapping[str, Any], provenance: Mapping[str, Any]) -> dict[str, Any]:
    """MEASURES of a Run as numbers, and its rate in bits an image: of fixed-length codes and at the codes' entropy."""
    known = {name: {**evaluation, **provenance}.get(name) for name in MEASURES}
    tokens = evaluation["tokens"] / evaluation["images"]
    return {
        **{name: value for name, value in known.items() if value is not None},
        "entropy_bits": tokens * code_bits(evaluation["perplexity"]),
        "tokens_per_image": tokens,
        "data": evaluation["data"],
    }


def _row(trial: FrozenTrial | None) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys((*MEASURES, "entropy_bits", "tokens_per_image"), math.nan)
    row |= {"run": "", "data": "", "error": "not finished yet"}
    if trial is None or trial.state.name != "COMPLETE":
        return row if trial is None or not broken(trial) else {**row, "error": trial.user_attrs["error"]}
    return {**row, **trial.user_attrs["row"], "error": ""}


@dataclass(frozen=True)
class GridTable:
    """The measured points of a Grid: ``rows`` has one row a point (axes, run, error, MEASURES, rates)."""

    grid: Grid
    rows: pd.DataFrame
    root: Path

    def good(self) -> pd.DataFrame:
        """The finished rows; raises InputError with the reasons where there is none."""
        good = self.rows[self.rows["error"] == ""]
        if good.empty:
            raise InputError(f"grid {self.grid.name}: no point is finished: {'; '.join(self.rows['error'].unique())}")
        return good

    def best(self, measure: str = "psnr") -> dict[str, Any]:
        """The point (changes to the base) with the largest ``measure``; the first of equals."""
        row = self.good().loc[self.good()[measure].idxmax()]
        points = dict(zip(map(point_name, self.grid.points()), self.grid.points(), strict=True))
        return next(point for point in points.values() if all(_same(row[axis], value) for axis, value in point.items()))

    def command(self, measure: str = "psnr") -> str:
        """The command that gives the best row's Run again."""
        return command(self.grid.base.replace(**self.best(measure)))

    def formatted(self, columns: Sequence[str] = tuple(MEASURES)) -> pd.DataFrame:
        """The rows for reading: short axis names, columns by their labels, best PSNR first."""
        names = {**MEASURES, "entropy_bits": "bits an image (entropy)", "tokens_per_image": "codes an image"}
        chosen = self.rows[[*self.grid.axes, *columns, *(["error"] if (self.rows["error"] != "").any() else [])]]
        chosen = chosen.sort_values("psnr", ascending=False) if "psnr" in columns else chosen
        return chosen.rename(columns={**{axis: short(axis) for axis in self.grid.axes}, **names}).reset_index(drop=True)


def _same(one: Any, other: Value) -> bool:
    return bool(one == other) or (other is None and one is None)


def short(axis: str) -> str:
    """The last part of a dotted field."""
    return axis.rpartition(".")[2]


def command(config: Config) -> str:
    """The shortest ``vqlab train`` command for ``config``: the nearest profile and what differs from it."""
    from vqlab.config import PROFILES

    return min((_command(config, profile) for profile in PROFILES), key=len)


def _command(config: Config, profile: str) -> str:
    like = Config.profile(profile, **{"data.source": config.data.source, "seed": config.seed})
    base, wanted = _flat(like.model_dump()), _flat(config.model_dump())
    changes = [f"--set {key}={json.dumps(value)}" for key, value in wanted.items() if base[key] != value]
    words = ["vqlab train", f"--profile {profile}", f"--data {config.data.source}", f"--seed {config.seed}", *changes]
    return " ".join(words).replace('"', "")


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
