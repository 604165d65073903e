"""Tuning: TPE proposes Configs, a pruner ends hopeless Runs; any number of workers, on the storage of grids."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqlab.config import Config
from vqlab.errors import InputError
from vqlab.studies.commands import train_command
from vqlab.studies.grid import Value
from vqlab.studies.leases import point_of
from vqlab.studies.storage import storage_errors
from vqlab.studies.worker import Worker

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, by their logarithm if ``log``; whole numbers where both ends are."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not all(isinstance(end, int | float) for end in (self.low, self.high)):
            raise InputError(f"range {self.low}…{self.high}: both ends must be numbers")
        if not self.low < self.high or (self.log and self.low <= 0):
            raise InputError(f"range {self.low}…{self.high}: low must be under high, and above 0 for a logarithm")


Space = Mapping[str, Range | tuple[Value, ...]]

# What the paper varies (§4.4.1, §4.4.4) and what the doctor asks to change, for tuning without a space of one's own.
SPACE: Space = {
    "quantizer.beta": Range(0.05, 5.0, log=True),
    "quantizer.decay": (0.9, 0.95, 0.97, 0.99),
    "quantizer.restart_share": Range(0.02, 0.5, log=True),
    "optim.learning_rate": Range(1e-4, 3e-3, log=True),
}


def parse_space(fields: Mapping[str, Any]) -> Space:
    """A space from plain values: a list of choices, or {"low": …, "high": …, "log": …}; SPACE where there are none.

    Raises InputError for anything else.
    """
    space: dict[str, Range | tuple[Value, ...]] = {}
    for field, values in fields.items():
        if isinstance(values, list | tuple) and values:
            space[field] = tuple(values)
        elif isinstance(values, dict) and {"low", "high"} <= set(values) <= {"low", "high", "log"}:
            space[field] = Range(**values)
        else:
            raise InputError(
                f'{field}={values}: write choices as [1,2] or a range as {{"low":0.1,"high":2,"log":true}}'
            )
    return space or SPACE


@dataclass(frozen=True)
class Tuning:
    """``trials`` Configs near ``base``, proposed over ``space`` (dotted field: Range, or a tuple of values).

    The target is PSNR on the *test* images, as there is no third split: the winner's number is optimistic, so train it
    again with other seeds before you report it. A Run is pruned when its PSNR after an epoch is under the median
    of the others'. Raises InputError for an empty space, fewer than one trial, or a value that the Config refuses.
    """

    name: str
    base: Config
    space: Space
    trials: int = 20

    def __post_init__(self) -> None:
        if not self.space:
            raise InputError(f"tuning {self.name}: has an empty space; give at least one field")
        if self.trials < 1:
            raise InputError(f"tuning {self.name}: trials={self.trials} must be at least 1")
        for field, values in self.space.items():
            for value in (values.low, values.high) if isinstance(values, Range) else values:
                self.base.replace(**{field: value})

    @property
    def study_name(self) -> str:
        """The tuning's name and a hash of base and space; more trials go on with the same study."""
        space = {field: str(values) for field, values in self.space.items()}
        return f"{self.name}-{hashlib.sha256(json.dumps([self.base.id, space]).encode()).hexdigest()[:12]}"

    def run(
        self, root: str | Path = "runs", device: str | None = None, log: Callable[[str], None] | None = None,
        *, storage: str | None = None,
    ) -> Study:  # fmt: skip
        """Work until ``trials`` are done, by this worker or others; returns Optuna's Study, for its own plots.

        One worker alone proposes the same trials every time (the sampler's seed is the Config's); several do not.
        Raises InputError for a storage out of reach.
        """
        with storage_errors(storage):
            worker = _Tuner(self, Path(root), device, log, storage)
            worker.work()
            return worker.study

    def best(self, study: Study) -> Config:
        """The Config of the trial with the highest PSNR; raises InputError where none is finished."""
        done = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
        if not done:
            raise InputError(f"tuning {self.name}: no trial is finished")
        return self.base.replace(**max(done, key=lambda trial: trial.value or float("-inf")).params)

    def command(self, study: Study) -> str:
        """The command that gives the best trial's Run again."""
        return train_command(self.best(study))


class _Tuner(Worker):
    """Proposes trials up to the number asked for."""

    def __init__(
        self, tuning: Tuning, root: Path, device: str | None, log: Callable[[str], None] | None, storage: str | None
    ) -> None:
        import optuna

        super().__init__(tuning.study_name, root, device, log, storage)
        self.tuning, self.size = tuning, tuning.trials
        self.study.pruner = optuna.pruners.MedianPruner(n_startup_trials=max(3, tuning.trials // 5))

    def queue(self) -> None:
        """Queue lost points again, with the params they had."""
        self.leases.enqueue({name: trial.params for name, trial in self._points().items()})

    def propose(self) -> Trial | None:
        """A new trial while there are fewer than asked for."""
        from optuna.trial import TrialState

        if len(self._points()) >= self.size:
            return None
        trial = self.study.ask()
        # Two workers may ask for the last one at once: the trials' order says whose it is.
        if list(self._points()).index(str(trial.number)) < self.size:
            return trial
        trial.set_user_attr("surplus", True)
        self.study.tell(trial, state=TrialState.FAIL)
        return None

    def config(self, trial: Trial) -> Config:
        """The base with what TPE suggests."""
        import optuna

        # A generator for each trial: workers draw differently, and a resumed tuning as an uninterrupted one.
        self.study.sampler = optuna.samplers.TPESampler(
            seed=self.tuning.base.seed + 1009 * trial.number, n_startup_trials=max(4, self.size // 4)
        )
        return self.tuning.base.replace(
            **{field: _suggest(trial, field, values) for field, values in self.tuning.space.items()}
        )

    def _points(self) -> dict[str, FrozenTrial]:
        """The first trial of each point, in the order of the points."""
        points: dict[str, FrozenTrial] = {}
        for trial in self.leases.trials():
            if "surplus" not in trial.user_attrs:
                points.setdefault(point_of(trial), trial)
        return points


def _suggest(trial: Trial, field: str, values: Range | tuple[Value, ...]) -> Value:
    if not isinstance(values, Range):
        return trial.suggest_categorical(field, values)
    if isinstance(values.low, int) and isinstance(values.high, int):
        return trial.suggest_int(field, values.low, values.high, log=values.log)
    return trial.suggest_float(field, values.low, values.high, log=values.log)
