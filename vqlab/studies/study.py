"""Studies: many Configs and seeds into one tidy table, with intervals and paired differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqlab.config import Config
from vqlab.errors import InputError
from vqlab.training import Run, train

if TYPE_CHECKING:
    import pandas as pd

MEASURES = {
    "mse": "MSE",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "rfd_classifier": "rFD-classifier",
    "perplexity": "perplexity (window: test set)",
    "utilisation": "utilisation",
    "wall_seconds": "wall time (s)",
    "peak_memory_mib": "peak memory (MiB)",
}


@dataclass(frozen=True)
class Study:
    """Arms, each a name with its dotted changes to ``base``, crossed with seeds.

    Raises InputError for no arms, no seeds, or a change that the Config refuses.
    """

    base: Config
    arms: Mapping[str, Mapping[str, Any]]
    seeds: Sequence[int] = (0,)

    def __post_init__(self) -> None:
        if not self.arms:
            raise InputError("study: has no arms; give at least one, as {'RRT': {'quantizer.transport': 'rotation'}}")
        if not self.seeds:
            raise InputError("study: has no seeds; give at least one, as seeds=(0, 1, 2)")
        self.configs()

    def configs(self) -> list[tuple[str, int, Config]]:
        """(arm, seed, Config) of every row, in order."""
        return [
            (arm, seed, self.base.replace(**changes, seed=seed))
            for arm, changes in self.arms.items()
            for seed in self.seeds
        ]

    def run(
        self, root: str | Path = "runs", device: str | None = None, log: Callable[[str], None] | None = None
    ) -> StudyTable:
        """Train what is missing under ``root`` and measure everything; say: called with a line for each row.

        A row that fails keeps its reason in the column ``error`` and does not stop the rest.
        """
        return self._table(Path(root), log, lambda config: train(config, root, device), device)

    def table(self, root: str | Path = "runs") -> StudyTable:
        """What is known of every row so far; nothing is trained."""
        return self._table(Path(root), None, lambda config: _finished(Path(root) / config.id), None)

    def _table(
        self, root: Path, log: Callable[[str], None] | None, run_of: Callable[[Config], Run], device: str | None
    ) -> StudyTable:
        import pandas as pd

        rows = []
        configs = self.configs()
        for number, (arm, seed, config) in enumerate(configs, 1):
            row = _row(arm, seed, config, run_of, device)
            rows.append(row)
            if log:
                log(f"[{number}/{len(configs)}] {arm}, seed {seed}: {row['error'] or _row_summary(row)}")
        return StudyTable(pd.DataFrame(rows), root)


def _finished(folder: Path) -> Run:
    if not (folder.is_dir() and (run := Run.open(folder)).finished):
        raise InputError("not finished yet")
    return run


def _row(arm: str, seed: int, config: Config, run_of: Callable[[Config], Run], device: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {"arm": arm, "seed": seed, "run": config.id, "error": ""}
    row |= dict.fromkeys(MEASURES, math.nan)
    try:
        run = run_of(config)
        measured = {**run.evaluation(device), **run.provenance}
    except Exception as error:
        return {**row, "error": f"{type(error).__name__}: {error}"}
    known = {name: measured[name] for name in MEASURES if measured.get(name) is not None}
    return {**row, "data": measured["data"], **known}


def _row_summary(row: dict[str, Any]) -> str:
    known = {"psnr": "PSNR {:.2f} dB", "perplexity": "perplexity {:.0f} (test set)", "wall_seconds": "{:.0f} s"}
    return ", ".join(text.format(row[name]) for name, text in known.items() if not math.isnan(row[name]))


@dataclass(frozen=True)
class StudyTable:
    """The measured rows of a Study: ``rows`` has one row per arm and seed (arm, seed, run, error, MEASURES)."""

    rows: pd.DataFrame
    root: Path

    def runs(self, arm: str) -> list[Run]:
        """The finished Runs of one arm, by seed; raises InputError for an arm that has none."""
        good = self._finished_rows()
        found = good[good["arm"] == arm]["run"]
        if found.empty:
            raise InputError(f"arm={arm!r}: no finished run; use one of {', '.join(map(str, good['arm'].unique()))}")
        return [Run.open(self.root / run) for run in found]

    def summary(self, measures: Sequence[str] = tuple(MEASURES)) -> pd.DataFrame:
        """Mean and 95 % interval (Student's t over seeds) by arm; columns (measure, mean | low | high), and n."""
        import pandas as pd

        good = self._finished_rows()
        values = {
            arm: {
                ("n", ""): len(rows),
                **{
                    (measure, name): value
                    for measure in measures
                    for name, value in zip(("mean", "low", "high"), interval(rows[measure]), strict=True)
                },
            }
            for arm, rows in good.groupby("arm", sort=False)
        }
        return pd.DataFrame(values).T

    def formatted(self, measures: Sequence[str] = tuple(MEASURES)) -> pd.DataFrame:
        """``summary`` for reading: mean and interval as text, columns by their labels; none for what no arm has."""
        import pandas as pd

        summary = self.summary(measures)
        table = {
            MEASURES[measure]: [_text(*summary.loc[arm, measure][["mean", "low", "high"]]) for arm in summary.index]
            for measure in measures
            if summary[measure]["mean"].notna().any()
        }
        return pd.DataFrame({"seeds": summary["n"].astype(int).tolist(), **table}, index=summary.index)

    def difference(self, one: str, other: str, measures: Sequence[str] = ("mse", "psnr", "ssim")) -> pd.DataFrame:
        """``one`` − ``other``, paired by seed: mean, 95 % interval, n, and whether the interval leaves out 0."""
        import pandas as pd

        good = self._finished_rows()
        sides = [good[good["arm"] == arm].set_index("seed")[list(measures)] for arm in (one, other)]
        apart = (sides[0] - sides[1]).dropna()
        if apart.empty:
            raise InputError(f"difference({one!r}, {other!r}): no seed was measured in both arms")
        rows = {}
        for measure in measures:
            mean, low, high = interval(apart[measure])
            rows[MEASURES[measure]] = {
                "mean difference": mean, "low": low, "high": high, "n": len(apart), "differs": low > 0 or high < 0,
            }  # fmt: skip
        return pd.DataFrame(rows).T

    def describe_difference(self, one: str, other: str, measure: str = "psnr") -> str:
        """One sentence: whether ``one`` and ``other`` differ in ``measure``, by how much, over how many seeds."""
        row = self.difference(one, other, [measure]).iloc[0]
        label = MEASURES[measure]
        if row["n"] < 2:
            return f"{one} − {other}: {row['mean difference']:+.3g} {label}; one seed cannot tell a difference."
        told = f"{row['mean difference']:+.3g} [{row['low']:+.3g}, {row['high']:+.3g}] {label} over {row['n']} seeds"
        return f"{one} and {other} {'differ' if row['differs'] else 'do not differ measurably'}: {told}."

    def _finished_rows(self) -> pd.DataFrame:
        good = self.rows[self.rows["error"] == ""]
        if good.empty:
            reasons = "; ".join(self.rows["error"].unique())
            raise InputError(f"study: no row was finished: {reasons}")
        return good


def profile_seeds(profile: str, first: int = 0) -> tuple[int, ...]:
    """The seeds a study of this profile takes, from ``first`` on: two for ``quick``, three for the others."""
    return tuple(range(first, first + (2 if profile == "quick" else 3)))


def interval(values: pd.Series) -> tuple[float, float, float]:
    """Mean and 95 % interval by Student's t; the ends are NaN for fewer than two values."""
    from scipy import stats

    mean, count = float(values.mean()), int(values.count())
    if count < 2:
        return mean, math.nan, math.nan
    half = float(stats.t.ppf(0.975, count - 1)) * float(values.std(ddof=1)) / math.sqrt(count)
    return mean, mean - half, mean + half


def _text(mean: float, low: float, high: float) -> str:
    return f"{mean:.4g}" if math.isnan(low) else f"{mean:.4g} [{low:.4g}, {high:.4g}]"
