"""The table of a Study: measures by arm and seed, means with intervals, and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqlab.errors import InputError
from vqlab.studies.display import count_finished, finished_values, table_html
from vqlab.studies.failed_rows import first_reasons, none_finished
from vqlab.studies.measures import CODE_MEASURES, MEASURES, SPEED_MEASURES, confidence_interval, format_interval
from vqlab.training import Run

if TYPE_CHECKING:
    import pandas as pd

_LABELS = {**MEASURES, **SPEED_MEASURES, **CODE_MEASURES}


@dataclass(frozen=True)
class StudyTable:
    """The measured rows of a Study.

    Attributes:
        rows: one row for each arm and seed, with the columns ``arm``, ``seed``, ``run`` (id of the Run), ``error``
            (empty for a finished row, else the reason), ``data`` (name of the data set) and one column for each
            key of ``MEASURES``, ``SPEED_MEASURES`` and ``CODE_MEASURES``; NaN where a value was not measured.
        root: the folder that holds the Runs.
        measured_on: provenance of Runs that are not at hand, if the rows were measured elsewhere (``data``,
            ``data_fingerprint``, ``device``, ``packages``). Default None.
    """

    rows: pd.DataFrame
    root: Path
    measured_on: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        psnr = finished_values(self.rows, "psnr")
        values = f", PSNR {psnr.min():.2f}…{psnr.max():.2f} dB" if len(psnr) else ""
        return f"StudyTable({len(_arms(self.rows))} arms, {count_finished(self.rows)} rows finished{values})"

    def _repr_html_(self) -> str:
        numbers = {"finished": f"{count_finished(self.rows)} rows"}
        psnr = finished_values(self.rows, "psnr")
        if len(psnr):
            means = psnr.groupby(self.rows["arm"], sort=False).mean()
            numbers["highest mean PSNR"] = f"{means.max():.2f} dB ({means.idxmax()})"
        seconds = finished_values(self.rows, "wall_seconds")
        if len(seconds):
            numbers["training time, all rows"] = f"{seconds.sum():.0f} s"
        arms, seeds = len(_arms(self.rows)), self.rows["seed"].nunique()
        return table_html(f"Study: {arms} arms, {seeds} seeds", numbers, self._display_table())

    def _display_table(self) -> pd.DataFrame:
        """The formatted table, or the reasons if no row is finished."""
        if (self.rows["error"] != "").all():
            return self.rows[["arm", "seed", "error"]].set_index("arm")
        return self.formatted([measure for measure in MEASURES if measure in self.rows])

    def runs(self, arm: str) -> list[Run]:
        """Open the finished Runs of one arm.

        Args:
            arm: name of the arm.

        Returns:
            The Runs in the order of the seeds.

        Raises:
            InputError: if the arm has no finished Run, or no row of the study is finished.
        """
        finished = self._finished_rows()
        ids = finished[finished["arm"] == arm]["run"]
        if ids.empty:
            raise InputError(f"arm={arm!r}: has no finished run; use one of {', '.join(map(str, _arms(finished)))}")
        return [Run.open(self.root / run) for run in ids]

    def first_runs(self) -> dict[str, Run]:
        """Open the Run of the first finished seed of each arm.

        Returns:
            Runs by arm; arms without a finished row are left out.

        Raises:
            InputError: if no row of the study is finished.
        """
        return {arm: self.runs(arm)[0] for arm in _arms(self._finished_rows())}

    def all_runs(self) -> list[Run]:
        """Open the Runs of all finished rows.

        Returns:
            The Runs in the order of the rows.

        Raises:
            InputError: if no row of the study is finished.
        """
        return [Run.open(self.root / run) for run in self._finished_rows()["run"]]

    def summary(self, measures: Sequence[str] = tuple(MEASURES)) -> pd.DataFrame:
        """Mean and 95 % confidence interval of each measure over the seeds of each arm.

        Args:
            measures: keys of ``MEASURES``, ``SPEED_MEASURES`` or ``CODE_MEASURES``.

        Returns:
            One row for each arm with a finished row. Columns have two levels: (measure, ``mean``), (measure,
            ``low``), (measure, ``high``), and (``n``, "") for the number of seeds.

        Raises:
            InputError: if no row is finished.
        """
        import pandas as pd

        values = {
            arm: {
                ("n", ""): len(rows),
                **{
                    (measure, name): value
                    for measure in measures
                    for name, value in zip(("mean", "low", "high"), confidence_interval(rows[measure]), strict=True)
                },
            }
            for arm, rows in self._finished_rows().groupby("arm", sort=False)
        }
        return pd.DataFrame(values).T

    def formatted(self, measures: Sequence[str] = tuple(MEASURES)) -> pd.DataFrame:
        """Format ``summary`` as text, for display.

        Args:
            measures: keys of ``MEASURES``, ``SPEED_MEASURES`` or ``CODE_MEASURES``; a measure that no arm has is left
                out.

        Returns:
            One row for each arm: the number of seeds, then ``mean [low, high]`` of each measure under its label.

        Raises:
            InputError: if no row is finished.
        """
        import pandas as pd

        summary = self.summary(measures)
        table = {
            _LABELS[measure]: [
                format_interval(*summary.loc[arm, measure][["mean", "low", "high"]]) for arm in summary.index
            ]
            for measure in measures
            if summary[measure]["mean"].notna().any()
        }
        return pd.DataFrame({"seeds": summary["n"].astype(int).tolist(), **table}, index=summary.index)

    def time_to_psnr(self) -> pd.DataFrame:
        """Format what the Runs needed to reach 22, 24 and 25 dB, see ``vqlab.studies.measures.time_to_psnr``.

        Returns:
            As ``formatted``, for ``SPEED_MEASURES``; a level that no Run reached has no column, and the mean of an
            arm is that of the seeds that reached the level.

        Raises:
            InputError: if no row is finished.
        """
        return self.formatted(tuple(SPEED_MEASURES))

    def difference(self, one: str, other: str, measures: Sequence[str] = ("mse", "psnr", "ssim")) -> pd.DataFrame:
        """Difference ``one`` − ``other`` of two arms, paired by seed.

        The interval is that of a paired t-test (Student, "The probable error of a mean", 1908).

        Args:
            one: name of an arm.
            other: name of the arm that is subtracted.
            measures: keys of ``MEASURES``, ``SPEED_MEASURES`` or ``CODE_MEASURES``.

        Returns:
            One row for each measure, by label: ``mean difference``, ``low`` and ``high`` (95 % confidence interval),
            ``n`` (pairs), ``differs`` (whether the interval excludes 0).

        Raises:
            InputError: if no seed was measured in both arms, or no row is finished.
        """
        import pandas as pd

        finished = self._finished_rows()
        pair = [finished[finished["arm"] == arm].set_index("seed")[list(measures)] for arm in (one, other)]
        differences = (pair[0] - pair[1]).dropna()
        if differences.empty:
            raise InputError(f"difference({one!r}, {other!r}): no seed was measured in both arms; train a common seed")
        rows = {}
        for measure in measures:
            mean, low, high = confidence_interval(differences[measure])
            rows[_LABELS[measure]] = {
                "mean difference": mean, "low": low, "high": high, "n": len(differences),
                "differs": low > 0 or high < 0,
            }  # fmt: skip
        return pd.DataFrame(rows).T

    def describe_difference(self, one: str, other: str, measure: str = "psnr") -> str:
        """Describe ``difference`` in one sentence.

        Args:
            one: name of an arm.
            other: name of the arm that is subtracted.
            measure: a key of ``MEASURES``, ``SPEED_MEASURES`` or ``CODE_MEASURES``.

        Returns:
            Whether the arms differ, the mean difference with its interval, and the number of seeds.

        Raises:
            InputError: if no seed was measured in both arms, or no row is finished.
        """
        row = self.difference(one, other, [measure]).iloc[0]
        label = _LABELS[measure]
        if row["n"] < 2:
            return f"{one} − {other}: {row['mean difference']:+.3g} {label}; one seed gives no confidence interval."
        size = f"{row['mean difference']:+.3g} [{row['low']:+.3g}, {row['high']:+.3g}] {label} over {row['n']} seeds"
        return f"{one} and {other} {'differ' if row['differs'] else 'do not differ measurably'}: {size}."

    def left_out(self) -> list[str]:
        """Say which rows are not in the summaries.

        Returns:
            One line for each kind of reason: the number of rows, and the reason of the first one.
        """
        return [
            f"{count} of {len(self.rows)} rows are left out: {reason}" for count, reason in first_reasons(self.rows)
        ]

    def _finished_rows(self) -> pd.DataFrame:
        finished = self.rows[self.rows["error"] == ""]
        if finished.empty:
            raise none_finished(self.rows, "study: no row", "run the study, or fix the reason first")
        return finished


def _arms(rows: pd.DataFrame) -> list[str]:
    return list(rows["arm"].unique())
