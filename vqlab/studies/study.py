"""Studies: train and measure several Configs, each with several seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vqlab.config import Config
from vqlab.errors import InputError
from vqlab.studies.failed_rows import UNFINISHED
from vqlab.studies.measures import (
    CODE_MEASURES,
    MEASURES,
    SPEED_MEASURES,
    code_measures,
    quantization_error,
    time_to_psnr,
)
from vqlab.studies.memory_check import check_points
from vqlab.studies.study_table import StudyTable
from vqlab.training import Run, train
from vqlab.training.evaluation import usage_columns
from vqlab.training.run import finished_run

_COLUMNS = (*MEASURES, *SPEED_MEASURES, *CODE_MEASURES)


@dataclass(frozen=True)
class Study:
    """Variants of one Config (arms), each trained with every seed.

    Args:
        base: the Config that every arm changes.
        arms: name of each arm and its changes to ``base``, by dotted field.
        seeds: seeds of the random generators; each arm is trained with each of them. Use at least two to get
            confidence intervals.
        test_source: a data source whose test images are measured instead of those of the Config, as for
            ``Run.evaluation_on``; the rows then have pixel metrics and usage of codes only. Default None.
        held_out: whether the metrics after the last epoch are used instead of ``Run.evaluation``: those of the
            validation images, or of the test images without any; no distances between sets of images. Default False.

    Raises:
        InputError: if there are no arms or no seeds, or the Config refuses a change.

    Example:
        >>> from vqlab import Config
        >>> arms = {"rotation": {}, "straight-through": {"quantizer.transport": "straight_through"}}
        >>> [(arm, seed) for arm, seed, config in Study(Config(), arms, seeds=(0, 1)).configs()]
        [('rotation', 0), ('rotation', 1), ('straight-through', 0), ('straight-through', 1)]
    """

    base: Config
    arms: Mapping[str, Mapping[str, Any]]
    seeds: Sequence[int] = (0,)
    test_source: str | None = None
    held_out: bool = False

    def __post_init__(self) -> None:
        if not self.arms:
            raise InputError("study: has no arms; give at least one, as {'RRT': {'quantizer.transport': 'rotation'}}")
        if not self.seeds:
            raise InputError("study: has no seeds; give at least one, as seeds=(0, 1, 2)")
        self.configs()

    def configs(self) -> list[tuple[str, int, Config]]:
        """List the Config of every row.

        Returns:
            (arm, seed, Config), by arm, then by seed.
        """
        return [
            (arm, seed, self.base.replace(**changes, seed=seed))
            for arm, changes in self.arms.items()
            for seed in self.seeds
        ]

    def run(
        self, root: str | Path = "runs", device: str | None = None, log: Callable[[str], None] | None = None,
        *, force: bool = False,
    ) -> StudyTable:  # fmt: skip
        """Train the Configs that are not finished, then measure all of them.

        A row that fails stores the reason in the column ``error``; the other rows are still trained.

        Args:
            root: the folder that holds the Runs.
            device: ``cpu`` or ``cuda``; None uses CUDA where available.
            log: called with one line of text for each row, in order; None logs nothing.
            force: whether to train although the estimated memory is more than there is. Default False: that is refused
                before the first training.

        Returns:
            The measured rows.

        Raises:
            InputError: if the device is not available, or the memory is too small for an arm.
        """
        if not force:
            points = {f"arm {arm}": config for arm, seed, config in self.configs() if seed == self.seeds[0]}
            check_points(points, Path(root), device)
        return self._table(Path(root), log, lambda config: train(config, root, device, force=force), device)

    def table(self, root: str | Path = "runs") -> StudyTable:
        """Measure the rows that are finished; train nothing.

        Args:
            root: the folder that holds the Runs.

        Returns:
            All rows; the column ``error`` of a row without a finished Run says so.
        """
        return self._table(Path(root), None, lambda config: _open_finished(Path(root), config), None)

    def _table(
        self, root: Path, log: Callable[[str], None] | None, get_run: Callable[[Config], Run], device: str | None
    ) -> StudyTable:
        import pandas as pd

        rows = []
        configs = self.configs()
        for number, (arm, seed, config) in enumerate(configs, 1):
            row = _measure_row(arm, seed, config, get_run, lambda run: self._columns(run, device))
            rows.append(row)
            if log:
                log(
                    f"[{number}/{len(configs)}] {arm}, seed {seed}: {row['error'] or _describe_row(row, self.held_out)}"
                )
        return StudyTable(pd.DataFrame(rows), root)

    def _columns(self, run: Run, device: str | None) -> dict[str, Any]:
        if self.test_source is not None:
            return run.evaluation_on(self.test_source, device)
        return run.last_epoch_metrics() if self.held_out else run.evaluation(device)


def profile_seeds(profile: str, first: int = 0) -> tuple[int, ...]:
    """Seeds of a study at the scale of a profile.

    Args:
        profile: ``quick`` gives two seeds, any other profile three.
        first: the first seed.

    Returns:
        Consecutive seeds.

    Example:
        >>> profile_seeds("quick"), profile_seeds("paper", first=5)
        ((0, 1), (5, 6, 7))
    """
    return tuple(range(first, first + (2 if profile == "quick" else 3)))


def _open_finished(root: Path, config: Config) -> Run:
    run = finished_run(root, config)
    if run is None:
        raise InputError(UNFINISHED)
    run.check_data()
    return run


def _measure_row(
    arm: str, seed: int, config: Config, get_run: Callable[[Config], Run], evaluate: Callable[[Run], dict[str, Any]]
) -> dict[str, Any]:
    row: dict[str, Any] = {"arm": arm, "seed": seed, "run": config.id, "error": ""}
    row |= dict.fromkeys(_COLUMNS, math.nan)
    try:
        run = get_run(config)
        columns = evaluate(run)
        values = {
            **_usage_of_perplexity(run, columns),
            **columns,
            **run.provenance,
            **_time_to_psnr(run),
            **_code_measures(run),
        }
    except Exception as error:
        return {**row, "error": f"{type(error).__name__}: {error}"}
    measured = {name: values[name] for name in _COLUMNS if values.get(name) is not None}
    return {**row, "data": values["data"], **measured}


def _usage_of_perplexity(run: Run, columns: dict[str, Any]) -> dict[str, float]:
    """The columns of usage that an earlier version did not write, where they follow from the perplexity."""
    quantizer, perplexity = run.config.quantizer, columns.get("perplexity")
    if perplexity is None or quantizer.codes_per_vector > 1:
        return {}
    return usage_columns([perplexity], quantizer.num_codes)


def _code_measures(run: Run) -> dict[str, float]:
    seconds = run.provenance["wall_seconds"]
    if run.config.kind != "vqvae" or not seconds:
        return {}
    measured = code_measures(run.config, run.provenance["step"], seconds)
    return {**measured, "quantization_error": quantization_error(run.metrics())}


def _time_to_psnr(run: Run) -> dict[str, float]:
    rows, provenance, optim = run.metrics(), run.provenance, run.config.optim
    if run.config.prior.kind != "none" or "psnr" not in rows:
        return {}
    return time_to_psnr(rows, optim.batch_size, provenance["step"] * optim.batch_size, provenance["wall_seconds"])


def _describe_row(row: dict[str, Any], held_out: bool) -> str:
    part = "held-out" if held_out else "test"
    formats = {"psnr": "PSNR {:.2f} dB", "perplexity": f"perplexity {{:.0f}} ({part} set)", "wall_seconds": "{:.0f} s"}
    return ", ".join(text.format(row[name]) for name, text in formats.items() if not math.isnan(row[name]))
