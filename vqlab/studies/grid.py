"""Grids: every combination of some Config values, each trained once, by any number of workers."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqlab.config import Config
from vqlab.errors import InputError, WorkError
from vqlab.quantize.usage import bits_per_index
from vqlab.studies.commands import train_command
from vqlab.studies.display import count_finished, finished_values, table_html
from vqlab.studies.failed_rows import UNFINISHED, none_finished
from vqlab.studies.leases import has_error, is_failed, point_key, trial_point_key
from vqlab.studies.measures import MEASURES
from vqlab.studies.memory_check import check_points
from vqlab.studies.storage import JOURNAL, convert_storage_errors
from vqlab.studies.worker import Worker, describe_point, short_field_name
from vqlab.training import Run

if TYPE_CHECKING:
    import pandas as pd
    from optuna import Trial
    from optuna.trial import FrozenTrial

BIT_RATES = {"fixed_bits": "bits per image (fixed length)", "entropy_bits": "bits per image (entropy)"}
Value = bool | int | float | str | None


@dataclass(frozen=True)
class Grid:
    """All combinations of values of some Config fields.

    The measures are those after the last epoch, on the validation images if the Config has some, else on the test
    images: give the base some by ``vqlab.data.validation.with_validation``, as the command and ``named_grid`` do.

    Args:
        name: name of the grid; a prefix of ``study_name``.
        base: the Config that every point changes.
        axes: values of each axis, by dotted field; at least one axis, and at least one value, without repetition.

    Raises:
        InputError: if there are no axes, an axis has no value or one value twice, or the Config refuses a field or a
            combination of values.

    Example:
        >>> from vqlab import Config
        >>> Grid("example", Config(), {"quantizer.beta": [0.25, 1.0], "quantizer.decay": [0.99]}).points()
        [{'quantizer.beta': 0.25, 'quantizer.decay': 0.99}, {'quantizer.beta': 1.0, 'quantizer.decay': 0.99}]
    """

    name: str
    base: Config
    axes: Mapping[str, Sequence[Value]]

    def __post_init__(self) -> None:
        if not self.axes:
            raise InputError(f"grid {self.name}: has no axes; give at least one, as quantizer.decay=[0.95,0.99]")
        for axis, values in self.axes.items():
            if not values or len(set(map(repr, values))) < len(values):
                raise InputError(
                    f"grid {self.name}: axis {axis}={reprlib.repr(list(values))}: needs at least one value, without "
                    "repetition"
                )
        self.configs()

    def points(self) -> list[dict[str, Value]]:
        """List the points; the last axis changes fastest.

        Returns:
            Changes to ``base`` by dotted field, for each point.
        """
        return [dict(zip(self.axes, values, strict=True)) for values in itertools.product(*self.axes.values())]

    def configs(self) -> list[Config]:
        """List the Configs of the points.

        Returns:
            One Config for each point, in the order of ``points``.
        """
        return [self.base.replace(**point) for point in self.points()]

    @property
    def study_name(self) -> str:
        """Name of the Optuna study: the grid's name and a hash of base and axes, so that another grid has another."""
        axes = {axis: list(values) for axis, values in self.axes.items()}
        return f"{self.name}-{hashlib.sha256(json.dumps([self.base.id, axes]).encode()).hexdigest()[:12]}"

    def run(
        self, root: str | Path = "runs", device: str | None = None, log: Callable[[str], None] | None = None,
        *, storage: str | None = None, retry: bool = False, force: bool = False,
    ) -> GridTable:  # fmt: skip
        """Train the points that are not finished, until every point is finished by this worker or another one.

        Start any number of processes with the same ``root`` or ``storage``: each point is trained once, and points of
        killed workers are trained again. A point whose training fails stores the reason in the column ``error``.

        Args:
            root: the folder of the Runs, and of the journal that the workers share.
            device: ``cpu`` or ``cuda``; None uses CUDA where available.
            log: called with one line of text for each point that this worker ends; None logs nothing.
            storage: URL of a database that the workers share; None uses the journal under ``root``.
            retry: train points that failed in earlier calls again.
            force: whether to train although the estimated memory is more than there is. Default False: that is refused
                before the first training.

        Returns:
            The measured points.

        Raises:
            InputError: if the device is not available, the memory is too small for a point, or the images have changed
                since points were measured.
            WorkError: if the storage cannot be reached.
        """
        if not force:
            names = map(describe_point, self.points())
            check_points(dict(zip(names, self.configs(), strict=True)), Path(root), device)
        with convert_storage_errors(storage):
            worker = _GridWorker(self, Path(root), device, log, storage, retry=retry, force=force)
            worker.run()
            return worker.table()

    def table(self, root: str | Path = "runs", *, storage: str | None = None) -> GridTable:
        """Read the points that are finished; train nothing.

        Args:
            root: the folder of the Runs and the journal.
            storage: URL of a database; None uses the journal under ``root``.

        Returns:
            All points; the column ``error`` of an unfinished point says so.

        Raises:
            InputError: if the images have changed since points were measured.
            WorkError: if the storage cannot be reached.
        """
        with convert_storage_errors(storage):
            worker = _GridWorker(self, Path(root), None, None, storage)
            worker.check_images()
            return worker.table()


class _GridWorker(Worker):
    """Queue every point of a grid once."""

    def __init__(
        self, grid: Grid, root: Path, device: str | None, log: Callable[[str], None] | None, storage: str | None,
        *, retry: bool = False, force: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(grid.study_name, root, device, log, storage, force=force)
        self.grid, self.retry = grid, retry
        self.points = {point_key(point): point for point in grid.points()}
        self.num_points = len(self.points)

    def enqueue_points(self) -> None:
        """Queue the points without a valid trial; in the first call also those that failed, if ``retry``."""
        self.leases.enqueue(self.points, retry=self.retry)
        self.retry = False

    def suggest_config(self, trial: Trial) -> Config:
        """Build the Config of the trial's point."""
        point = {axis: trial.suggest_categorical(axis, values) for axis, values in self.grid.axes.items()}
        return self.grid.base.replace(**point)

    def table(self) -> GridTable:
        """Measures of every point from its valid trial, else from one that failed with a reason."""
        import pandas as pd

        trials: dict[str, FrozenTrial] = {}
        for trial in sorted(
            self.leases.trials(), key=lambda trial: (not is_failed(trial), has_error(trial), -trial.number)
        ):
            trials[trial_point_key(trial)] = trial
        rows = [
            {**point, **_measure_row(trials.get(key), config)}
            for (key, point), config in zip(self.points.items(), self.grid.configs(), strict=True)
        ]
        return GridTable(self.grid, pd.DataFrame(rows), self.root)


def _measure_row(trial: FrozenTrial | None, config: Config) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys((*MEASURES, *BIT_RATES), math.nan)
    row |= {"run": "", "data": "", "error": UNFINISHED}
    if trial is None or trial.state.name != "COMPLETE":
        return row if trial is None or not has_error(trial) else {**row, "error": trial.user_attrs["error"]}
    stored = trial.user_attrs.get("row")
    if not isinstance(stored, dict) or not isinstance(stored.get("perplexity"), int | float):
        raise WorkError(
            f"{JOURNAL}: trial {trial.number} holds no row of measures; move the journal away (the Runs are kept) and "
            "run again"
        )
    measured = {name: stored[name] for name in (*MEASURES, "run", "data") if name in stored}
    entropy = stored.get("entropy_bits_a_vector")
    return {**row, **measured, **bit_rates(config, stored["perplexity"], entropy), "error": ""}


def bit_rates(config: Config, perplexity: float, entropy: float | None = None) -> dict[str, float]:
    """Bits for the codes of one image, at fixed length and at the entropy of the codes.

    n · log₂ K and n · log₂ perplexity for n codes per image (Shannon, "A mathematical theory of communication", 1948).

    Args:
        config: the Config of a VQ-VAE.
        perplexity: perplexity of the codes on the measured images, 1…K; for several codes a vector, their mean.
        entropy: entropy of the codes of a vector, bits. Default None: that of the perplexity.

    Returns:
        ``fixed_bits`` and ``entropy_bits``, in bits per image.

    Example:
        >>> from vqlab import Config
        >>> bit_rates(Config.profile("paper"), perplexity=512.0)
        {'fixed_bits': 640.0, 'entropy_bits': 576.0}
    """
    cells, quantizer = math.prod(config.grid), config.quantizer
    entropy = quantizer.codes_per_vector * bits_per_index(perplexity) if entropy is None else entropy
    return {"fixed_bits": cells * quantizer.bits, "entropy_bits": cells * entropy}


@dataclass(frozen=True)
class GridTable:
    """The measured points of a Grid.

    Attributes:
        grid: the grid.
        rows: one row for each point, in the order of ``grid.points()``, with one column for each axis (dotted field),
            each key of ``MEASURES`` and each key of ``BIT_RATES`` (NaN where a value was not measured), and ``run``
            (id of the Run), ``data`` (name of the data set) and ``error`` (empty for a finished point, else the
            reason).
        root: the folder that holds the Runs.
    """

    grid: Grid
    rows: pd.DataFrame
    root: Path

    def __repr__(self) -> str:
        psnr = finished_values(self.rows, "psnr")
        best = f", best PSNR {psnr.max():.2f} dB at {self._describe_point(psnr.idxmax())}" if len(psnr) else ""
        return f"GridTable({self.grid.name}: {count_finished(self.rows)} points finished{best})"

    def _repr_html_(self) -> str:
        numbers = {"finished": f"{count_finished(self.rows)} points"}
        psnr = finished_values(self.rows, "psnr")
        if len(psnr):
            numbers["best PSNR"] = f"{psnr.max():.2f} dB"
            numbers["best point"] = self._describe_point(psnr.idxmax())
        axes = " × ".join(map(short_field_name, self.grid.axes))
        return table_html(f"Grid {self.grid.name}: {axes}", numbers, self.formatted(), index=False)

    def _describe_point(self, index: Any) -> str:
        return ", ".join(f"{short_field_name(axis)}={self.rows.loc[index, axis]}" for axis in self.grid.axes)

    def finished_rows(self) -> pd.DataFrame:
        """Select the finished rows.

        Returns:
            The rows without an error, with all columns.

        Raises:
            InputError: if no point is finished; the message contains the reasons.
        """
        finished = self.rows[self.rows["error"] == ""]
        if finished.empty:
            raise none_finished(self.rows, f"grid {self.grid.name}: no point", "run the grid first")
        return finished

    def all_runs(self) -> list[Run]:
        """Open the Runs of the finished points.

        Returns:
            The Runs in the order of the points.

        Raises:
            InputError: if no point is finished.
        """
        return [Run.open(self.root / run) for run in self.finished_rows()["run"]]

    def best_row(self, measure: str = "psnr") -> dict[str, Any]:
        """Select the finished point with the largest value of a measure; the first one if several are equal.

        Args:
            measure: a key of ``MEASURES`` or ``BIT_RATES``.

        Returns:
            The values of its row by column.

        Raises:
            InputError: if no point is finished.
        """
        finished = self.finished_rows()
        return dict(finished.iloc[int(finished[measure].argmax())])

    def best_config(self, measure: str = "psnr") -> Config:
        """Config of the finished point with the largest value of a measure; the first one if several are equal.

        Args:
            measure: a key of ``MEASURES`` or ``BIT_RATES``.

        Returns:
            The Config.

        Raises:
            InputError: if no point is finished.
        """
        values = self.rows[measure].where(self.rows["error"] == "")
        self.finished_rows()
        return self.grid.configs()[int(values.argmax())]

    def best_command(self, measure: str = "psnr") -> str:
        """Command that trains the best point.

        Args:
            measure: as in ``best_config``.

        Returns:
            A ``vqlab train`` command.

        Raises:
            InputError: if no point is finished.
        """
        return train_command(self.best_config(measure))

    def main_effects(self, measures: Sequence[str] = ("psnr", "perplexity", "utilisation")) -> pd.DataFrame:
        """Main effect of each axis: the mean of each measure over all finished points with the same value.

        Args:
            measures: keys of ``MEASURES``.

        Returns:
            One row for each axis (short name) and value; one column for each measure, by label.

        Raises:
            InputError: if no point is finished.
        """
        import pandas as pd

        finished = self.finished_rows()
        parts = {
            short_field_name(axis): finished.groupby(axis, sort=False)[list(measures)].mean() for axis in self.grid.axes
        }
        return pd.concat(parts, names=["axis", "value"]).rename(columns=MEASURES)

    def formatted(self, measures: Sequence[str] = (*MEASURES, "entropy_bits")) -> pd.DataFrame:
        """Format the rows for display, in descending order of PSNR.

        Args:
            measures: keys of ``MEASURES`` and ``BIT_RATES``; a measure that no point has is left out, such as
                distances between image sets, which a grid does not compute.

        Returns:
            One row for each point: the axes by short name, the measures by label, and ``error`` if any point failed
            or is not finished.
        """
        failed = ["error"] if (self.rows["error"] != "").any() else []
        labels = {**MEASURES, **BIT_RATES, **{axis: short_field_name(axis) for axis in self.grid.axes}}
        ordered = self.rows.sort_values("psnr", ascending=False)
        measured = [measure for measure in measures if ordered[measure].notna().any()]
        return ordered[[*self.grid.axes, *measured, *failed]].rename(columns=labels).reset_index(drop=True)
