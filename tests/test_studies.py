"""Studies: only what is missing is trained, a failed row says why, intervals agree with scipy."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_training import tiny

from vqlab import InputError
from vqlab.plots import study_intervals
from vqlab.studies.study import Study, StudyTable, interval

ARMS = {"RRT": {"quantizer.transport": "rotation"}, "straight-through": {"quantizer.transport": "straight_through"}}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> StudyTable:
    return Study(tiny(), ARMS, (0, 1)).run(tmp_path_factory.mktemp("study"), "cpu")


def test_a_study_is_one_tidy_row_for_each_arm_and_seed(table: StudyTable) -> None:
    assert table.rows[["arm", "seed"]].values.tolist() == [[arm, seed] for arm in ARMS for seed in (0, 1)]
    assert table.rows[["mse", "psnr", "ssim", "perplexity", "wall_seconds", "peak_memory_mib"]].notna().all().all()
    assert [run.config.seed for run in table.runs("RRT")] == [0, 1]


def test_running_again_trains_only_what_is_missing(table: StudyTable) -> None:
    before = {run.name: (run / "model.safetensors").stat().st_mtime_ns for run in table.root.iterdir()}
    more = Study(tiny(), ARMS, (0, 1, 2)).run(table.root, "cpu")
    after = {run.name: (run / "model.safetensors").stat().st_mtime_ns for run in table.root.iterdir()}
    assert len(after) == 6
    assert {name: after[name] for name in before} == before
    again = more.rows[more.rows["seed"] < 2].reset_index(drop=True)
    pd.testing.assert_frame_equal(again, table.rows)


def test_a_failed_row_says_why_and_the_rest_go_on(tmp_path: Path) -> None:
    arms = {"broken": {"data.source": "folder:nowhere"}, "RRT": {}}
    said: list[str] = []
    result = Study(tiny(), arms).run(tmp_path, "cpu", said.append)
    assert "no such folder" in result.rows["error"][0]
    assert result.rows["error"][1] == ""
    assert "[1/2] broken, seed 0: InputError" in said[0]
    assert list(result.summary().index) == ["RRT"]


def test_intervals_agree_with_scipy_and_one_seed_has_none() -> None:
    values = pd.Series([1.0, 2.0, 4.0, 4.5])
    low, high = stats.t.interval(0.95, 3, loc=values.mean(), scale=stats.sem(values))
    assert interval(values) == pytest.approx((values.mean(), low, high))
    assert [math.isnan(value) for value in interval(values[:1])] == [False, True, True]


def test_differences_are_paired_by_seed() -> None:
    rows = pd.DataFrame(
        {
            "arm": ["a"] * 3 + ["b"] * 3,
            "seed": [0, 1, 2] * 2,
            "error": "",
            "run": "",
            "psnr": [20, 25, 30, 19, 24.1, 29.1],
        }
    )
    table = StudyTable(rows, Path())
    row = table.difference("a", "b", ["psnr"]).loc["PSNR (dB)"]
    test = stats.ttest_rel(rows["psnr"][:3], rows["psnr"][3:])
    assert [row["low"], row["high"]] == pytest.approx(list(test.confidence_interval()))
    assert row["differs"]
    assert "a and b differ" in table.describe_difference("a", "b")
    alike = StudyTable(rows.assign(psnr=[20, 25, 30, 21, 24.0, 30.5]), Path())
    assert "do not differ measurably" in alike.describe_difference("a", "b")
    single = StudyTable(rows[rows["seed"] == 0], Path())
    assert "one seed cannot tell" in single.describe_difference("a", "b")


def test_the_figure_has_a_labelled_panel_for_each_measure(table: StudyTable) -> None:
    figure = study_intervals(table, ("psnr", "ssim"))
    assert [axis.get_xlabel() for axis in figure.axes] == ["PSNR (dB)", "SSIM"]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == list(ARMS)


@pytest.mark.parametrize(
    ("arms", "seeds", "told"),
    [
        ({}, (0,), "has no arms"),
        (ARMS, (), "has no seeds"),
        ({"spin": {"quantizer.transport": "spin"}}, (0,), "straight_through, rotation, rodrigues, reflection"),
        ({"bad": {"quantizer.codes": 3}}, (0,), "unknown config key"),
    ],
)
def test_a_senseless_study_is_refused(arms: dict, seeds: tuple[int, ...], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Study(tiny(), arms, seeds)


def test_a_study_without_a_finished_row_says_why(tmp_path: Path) -> None:
    result = Study(tiny(), {"broken": {"data.source": "folder:nowhere"}}).run(tmp_path, "cpu")
    with pytest.raises(InputError, match="no such folder"):
        result.summary()
    assert np.isnan(result.rows["psnr"][0])
