"""Tuning: TPE proposes Configs and a pruner stops poor ones, with any number of workers on the storage of grids."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqlab.config import Config
from vqlab.errors import InputError, WorkError
from vqlab.studies.commands import train_command
from vqlab.studies.grid import Value
from vqlab.studies.leases import trial_point_key
from vqlab.studies.memory_check import check_points
from vqlab.studies.storage import convert_storage_errors
from vqlab.studies.worker import Worker, describe_point

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class Range:
    """A range of numbers; integers if both ends are integers.

    Args:
        low: the lowest value.
        high: the highest value, above ``low``.
        log: sample the logarithm of the value uniformly; use it for values that differ by factors, such as a learning
            rate. ``low`` must be above 0 then.

    Raises:
        InputError: if an end is not a number, ``low`` is not below ``high``, or ``low`` is not above 0 although
            ``log`` is True.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not all(isinstance(end, int | float) for end in (self.low, self.high)):
            raise InputError(f"range {self.low}…{self.high}: both ends must be numbers")
        if not self.low < self.high or (self.log and self.low <= 0):
            raise InputError(f"range {self.low}…{self.high}: low must be below high, and above 0 with log")


def _ends(values: Range | tuple[Value, ...]) -> tuple[Value, ...]:
    return (values.low, values.high) if isinstance(values, Range) else values


Space = Mapping[str, Range | tuple[Value, ...]]

# Fields that the paper varies (§4.4.1, §4.4.4) and that vqlab.analysis.doctor proposes to change.
DEFAULT_SPACE: Space = {
    "quantizer.beta": Range(0.05, 5.0, log=True),
    "quantizer.decay": (0.9, 0.95, 0.97, 0.99),
    "quantizer.restart_share": Range(0.02, 0.5, log=True),
    "optim.learning_rate": Range(1e-4, 3e-3, log=True),
}


def parse_space(fields: Mapping[str, Any]) -> Space:
    """Build a search space from plain values, as JSON gives them.

    Args:
        fields: by dotted field, a list of choices or ``{"low": …, "high": …, "log": …}`` (``log`` may be left out).

    Returns:
        The space; ``DEFAULT_SPACE`` if ``fields`` is empty.

    Raises:
        InputError: if a value has another form, or ``Range`` refuses it.

    Example:
        >>> parse_space({"quantizer.beta": {"low": 0.1, "high": 2.0}, "quantizer.num_codes": [256, 512]})
        {'quantizer.beta': Range(low=0.1, high=2.0, log=False), 'quantizer.num_codes': (256, 512)}
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
    return space or DEFAULT_SPACE


@dataclass(frozen=True)
class Tuning:
    """A search for the Config with the highest PSNR, by TPE with median pruning.

    TPE: Bergstra et al., "Algorithms for hyper-parameter optimization", 2011.

    The target is the PSNR after the last epoch, on the validation images if the Config has some, else on the test
    images: give the base some by ``vqlab.data.validation.with_validation``, as the command and ``named_tuning`` do. The
    best value is optimistic; report the best Config with other seeds, on the test images. A trial is pruned if its PSNR
    after an epoch is below the median of the other trials at that epoch.

    Args:
        name: name of the tuning; a prefix of ``study_name``.
        base: the Config that every trial changes; its seed is that of the sampler.
        space: by dotted field, a ``Range`` or a tuple of choices.
        trials: number of trials of all workers together, at least 1. Raise it to continue a finished tuning.

    Raises:
        InputError: if the space is empty, ``trials`` is below 1, or the Config refuses a field or a value.
    """

    name: str
    base: Config
    space: Space
    trials: int = 20

    def __post_init__(self) -> None:
        if not self.space:
            raise InputError(f"tuning {self.name}: has an empty space; give at least one field")
        if self.trials < 1:
            raise InputError(f"tuning {self.name}: trials={self.trials}: must be at least 1")
        for field, values in self.space.items():
            for value in _ends(values):
                self.base.replace(**{field: value})

    @property
    def study_name(self) -> str:
        """Name of the Optuna study: the tuning's name and a hash of base and space; ``trials`` does not change it."""
        space = {field: str(values) for field, values in self.space.items()}
        return f"{self.name}-{hashlib.sha256(json.dumps([self.base.id, space]).encode()).hexdigest()[:12]}"

    def run(
        self, root: str | Path = "runs", device: str | None = None, log: Callable[[str], None] | None = None,
        *, storage: str | None = None, force: bool = False,
    ) -> Study:  # fmt: skip
        """Run trials until ``trials`` are done, by this worker or others.

        A single worker proposes the same trials in every repetition; several workers do not.

        Args:
            root: the folder of the Runs, and of the journal that the workers share.
            device: ``cpu`` or ``cuda``; None uses CUDA where available.
            log: called with one line of text for each trial that this worker ends; None logs nothing.
            storage: URL of a database that the workers share; None uses the journal under ``root``.
            force: whether to train although the estimated memory is more than there is. Default False: that is refused
                before the first training, for the largest values of the space.

        Returns:
            The Optuna study, for Optuna's own plots.

        Raises:
            InputError: if the device is not available, the memory is too small, or the images have changed since trials
                were measured.
            WorkError: if the storage cannot be reached.
        """
        if not force:
            check_points(self._extreme_configs(), Path(root), device)
        with convert_storage_errors(storage):
            worker = _TuningWorker(self, Path(root), device, log, storage, force=force)
            worker.run()
            return worker.study

    def _extreme_configs(self) -> dict[str, Config]:
        """The base with each end or choice of one field, and with the largest number of every field, by description."""
        values = {field: _ends(choices) for field, choices in self.space.items()}
        points = [{field: value} for field, ends in values.items() for value in ends]
        numbers = {field: [end for end in ends if isinstance(end, int | float)] for field, ends in values.items()}
        configs = {describe_point(point): self.base.replace(**point) for point in points}
        largest = {field: max(ends) for field, ends in numbers.items() if ends}
        with suppress(InputError):  # values that do not go together
            configs[describe_point(largest)] = self.base.replace(**largest)
        return configs

    def best_config(self, study: Study) -> Config:
        """Config of the finished trial with the highest PSNR.

        Args:
            study: the study that ``run`` returned.

        Returns:
            The Config.

        Raises:
            WorkError: if no trial is finished.
        """
        finished = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
        if not finished:
            raise WorkError(f"tuning {self.name}: no trial is finished; run the tuning first")
        return self.base.replace(**max(finished, key=lambda trial: trial.value or float("-inf")).params)

    def best_command(self, study: Study) -> str:
        """Command that trains the best trial's Config.

        Args:
            study: the study that ``run`` returned.

        Returns:
            A ``vqlab train`` command.

        Raises:
            WorkError: if no trial is finished.
        """
        return train_command(self.best_config(study))


class _TuningWorker(Worker):
    """Propose trials until the study has the requested number."""

    def __init__(
        self, tuning: Tuning, root: Path, device: str | None, log: Callable[[str], None] | None, storage: str | None,
        *, force: bool = False,
    ) -> None:  # fmt: skip
        import optuna

        super().__init__(tuning.study_name, root, device, log, storage, force=force)
        self.tuning, self.num_points = tuning, tuning.trials
        self.study.pruner = optuna.pruners.MedianPruner(n_startup_trials=max(3, tuning.trials // 5))

    def enqueue_points(self) -> None:
        """Queue the points of expired trials again, with all of their parameters or none."""
        size = len(self.tuning.space)
        self.leases.enqueue(
            {key: trial.params if len(trial.params) == size else {} for key, trial in self._first_trials().items()}
        )

    def propose_trial(self) -> Trial | None:
        """Create a trial while there are fewer than requested."""
        from optuna.trial import TrialState

        if len(self._first_trials()) >= self.num_points:
            return None
        trial = self.study.ask()
        # Two workers may create the last trial at once: only the first one in the order of the storage counts.
        if list(self._first_trials()).index(str(trial.number)) < self.num_points:
            return trial
        trial.set_user_attr("surplus", True)
        self.study.tell(trial, state=TrialState.FAIL)
        return None

    def suggest_config(self, trial: Trial) -> Config:
        """Build a Config from the values that TPE suggests."""
        import optuna

        # A seed for each point: two workers draw different values, and a resumed tuning, in which repeated trials take
        # numbers of their own, draws what it would have drawn without the interruption.
        number = list(self._first_trials()).index(trial_point_key(self.leases.trials()[trial.number]))
        self.study.sampler = optuna.samplers.TPESampler(
            seed=self.tuning.base.seed + 1009 * number, n_startup_trials=max(4, self.num_points // 4)
        )
        return self.tuning.base.replace(
            **{field: _suggest_value(trial, field, values) for field, values in self.tuning.space.items()}
        )

    def _first_trials(self) -> dict[str, FrozenTrial]:
        """First trial of each point by its key, in the order of the trials."""
        points: dict[str, FrozenTrial] = {}
        for trial in self.leases.trials():
            if "surplus" not in trial.user_attrs:
                points.setdefault(trial_point_key(trial), trial)
        return points


def _suggest_value(trial: Trial, field: str, values: Range | tuple[Value, ...]) -> Value:
    if not isinstance(values, Range):
        return trial.suggest_categorical(field, values)
    if isinstance(values.low, int) and isinstance(values.high, int):
        return trial.suggest_int(field, values.low, values.high, log=values.log)
    return trial.suggest_float(field, values.low, values.high, log=values.log)
