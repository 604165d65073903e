"""Studies: only missing Runs are trained, a failed row has its reason, intervals agree with SciPy."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_training import tiny

from vqlab import InputError, Run
from vqlab.data import load_data
from vqlab.plots import study_intervals
from vqlab.studies import (
    MEASURES,
    Grid,
    GridTable,
    Study,
    StudyTable,
    codebooks_beside_published,
    confidence_interval,
    scaling_beside_published,
    sizes_beside_published,
    transports_beside_published,
)
from vqlab.studies.grid import BIT_RATES
from vqlab.studies.measures import time_to_psnr
from vqlab.training.evaluation import pixel_metrics

ARMS = {"RRT": {"quantizer.transport": "rotation"}, "straight-through": {"quantizer.transport": "straight_through"}}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> StudyTable:
    return Study(tiny(), ARMS, (0, 1)).run(tmp_path_factory.mktemp("study"), "cpu")


def test_a_study_has_one_row_for_each_arm_and_seed(table: StudyTable) -> None:
    assert table.rows[["arm", "seed"]].values.tolist() == [[arm, seed] for arm in ARMS for seed in (0, 1)]
    assert table.rows[["mse", "psnr", "ssim", "perplexity", "wall_seconds", "peak_memory_mib"]].notna().all().all()
    assert [run.config.seed for run in table.runs("RRT")] == [0, 1]


def test_a_second_run_trains_only_missing_runs(table: StudyTable) -> None:
    before = {run.name: (run / "model.safetensors").stat().st_mtime_ns for run in table.root.iterdir()}
    more = Study(tiny(), ARMS, (0, 1, 2)).run(table.root, "cpu")
    after = {run.name: (run / "model.safetensors").stat().st_mtime_ns for run in table.root.iterdir()}
    assert len(after) == 6
    assert {name: after[name] for name in before} == before
    again = more.rows[more.rows["seed"] < 2].reset_index(drop=True)
    pd.testing.assert_frame_equal(again, table.rows)


def test_a_failed_row_has_its_reason_and_the_other_rows_are_trained(tmp_path: Path) -> None:
    arms = {"broken": {"data.source": "folder:nowhere"}, "RRT": {}}
    lines: list[str] = []
    result = Study(tiny(), arms).run(tmp_path, "cpu", lines.append)
    assert "no such folder" in result.rows["error"][0]
    assert result.rows["error"][1] == ""
    assert "[1/2] broken, seed 0: InputError" in lines[0]
    assert list(result.summary().index) == ["RRT"]


def test_intervals_agree_with_scipy_and_one_seed_has_no_interval() -> None:
    values = pd.Series([1.0, 2.0, 4.0, 4.5])
    low, high = stats.t.interval(0.95, 3, loc=values.mean(), scale=stats.sem(values))
    assert confidence_interval(values) == pytest.approx((values.mean(), low, high))
    assert [math.isnan(value) for value in confidence_interval(values[:1])] == [False, True, True]


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
    equal = StudyTable(rows.assign(psnr=[20, 25, 30, 21, 24.0, 30.5]), Path())
    assert "do not differ measurably" in equal.describe_difference("a", "b")
    single = StudyTable(rows[rows["seed"] == 0], Path())
    assert "one seed gives no confidence interval" in single.describe_difference("a", "b")


def test_the_figure_has_a_labelled_panel_for_each_measure(table: StudyTable) -> None:
    figure = study_intervals(table, ("psnr", "ssim"))
    assert [axis.get_xlabel() for axis in figure.axes] == ["PSNR (dB)", "SSIM"]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == list(ARMS)


@pytest.mark.parametrize(
    ("arms", "seeds", "message"),
    [
        ({}, (0,), "has no arms"),
        (ARMS, (), "has no seeds"),
        (
            {"spin": {"quantizer.transport": "spin"}},
            (0,),
            "straight_through, rotation, rotation_unscaled, rotation_inverse_distance, rescale, rodrigues, reflection",
        ),
        ({"bad": {"quantizer.codes": 3}}, (0,), "unknown config key"),
    ],
)
def test_an_invalid_study_is_refused(arms: dict, seeds: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Study(tiny(), arms, seeds)


def test_a_study_without_a_finished_row_names_the_reason(tmp_path: Path) -> None:
    result = Study(tiny(), {"broken": {"data.source": "folder:nowhere"}}).run(tmp_path, "cpu")
    with pytest.raises(InputError, match="no such folder"):
        result.summary()
    assert np.isnan(result.rows["psnr"][0])


def test_a_table_is_one_line_as_text_and_an_escaped_table_as_html(table: StudyTable) -> None:
    best = table.rows["psnr"].max()
    assert repr(table) == f"StudyTable(2 arms, 4 of 4 rows finished, PSNR {table.rows['psnr'].min():.2f}…{best:.2f} dB)"
    page = table._repr_html_()
    assert "Study: 2 arms, 2 seeds" in page
    assert "4 of 4 rows" in page
    assert str(table.formatted()["SSIM"].iloc[0]) in page
    renamed = StudyTable(table.rows.assign(arm="<script>"), table.root)
    assert "<script>" not in renamed._repr_html_()
    assert "&lt;script&gt;" in renamed._repr_html_()


def test_a_table_without_a_finished_row_is_displayed_with_the_reasons(tmp_path: Path) -> None:
    table = Study(tiny(), ARMS).table(tmp_path)
    assert repr(table) == "StudyTable(2 arms, 0 of 2 rows finished)"
    assert table._repr_html_().count("not finished yet") == 2


def test_a_study_may_measure_the_held_out_images_or_those_of_another_source(tmp_path: Path) -> None:
    config = tiny(**{"data.validation": 24})
    on_test = Study(config, ARMS).run(tmp_path, "cpu").rows
    on_validation = Study(config, ARMS, held_out=True).run(tmp_path, "cpu").rows
    run = Run.open(tmp_path / on_test["run"][0])
    assert on_validation["psnr"][0] == run.last_epoch_metrics()["psnr"] != on_test["psnr"][0]
    elsewhere = Study(config, ARMS, test_source="photos").run(tmp_path, "cpu").rows
    whole = load_data(config.data.model_copy(update={"test_limit": None, "validation": 0}))
    measured = pixel_metrics(run.model(), whole, config, "cpu")
    assert elsewhere["psnr"][0] == pytest.approx(measured["psnr"], abs=1e-6)
    assert measured["images"] > on_test_images(run)
    stored = run.folder / f"evaluation_{whole.fingerprint}.json"
    stored.write_text(stored.read_text().replace('"psnr": ', '"psnr": 1'))
    assert Study(config, ARMS, test_source="photos").run(tmp_path, "cpu").rows["psnr"][0] > 100


def on_test_images(run: Run) -> int:
    return int(run.evaluation("cpu", inception=False)["images"])


def test_pooled_psnr_stands_beside_the_mean_also_for_runs_measured_without_it(table: StudyTable) -> None:
    row = table.rows.iloc[0]
    assert row["psnr_pooled"] == pytest.approx(-10 * math.log10(row["mse"]))
    assert row["psnr_pooled"] < row["psnr"]
    path = table.runs("RRT")[0].folder / "evaluation.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "psnr_pooled"}))
    assert Study(tiny(), ARMS, (0, 1)).table(table.root).rows["psnr_pooled"][0] == row["psnr_pooled"]


def test_the_runs_of_a_table_are_opened(table: StudyTable) -> None:
    assert {arm: run.config.seed for arm, run in table.first_runs().items()} == dict.fromkeys(ARMS, 0)
    assert [run.config.id for run in table.all_runs()] == table.rows["run"].tolist()


def test_tables_of_measured_values_stand_beside_the_papers(table: StudyTable) -> None:
    transports = transports_beside_published({"here": table})
    measured = table.summary(["psnr"])["psnr", "mean"].to_dict()
    assert transports.loc["RRT, here", "PSNR (dB)"] == pytest.approx(measured["RRT"], abs=1e-4)
    assert transports.index[-2:].tolist() == ["paper, Table 3, RRT", "paper, Table 3, straight-through"]
    sizes = sizes_beside_published(table.runs("RRT")[0].data())
    assert sizes["measured"].tolist() == [96, 32, 32]
    assert sizes["paper §4.1.1"].tolist() == [50_000, 10_000, 32]


def test_grids_and_their_codebooks_stand_beside_the_papers(table: StudyTable) -> None:
    run = table.runs("RRT")[0]
    grid = Grid("scaling", tiny(), {"quantizer.num_codes": [16, 32], "quantizer.dim": [8]})
    values = dict.fromkeys((*MEASURES, *BIT_RATES), 1.0)
    points = [{"quantizer.num_codes": 16, "psnr": 20.0}, {"quantizer.num_codes": 32, "psnr": 21.0}]
    common = {**values, "quantizer.dim": 8, "run": run.config.id, "error": ""}
    measured = GridTable(grid, pd.DataFrame([{**common, **point} for point in points]), table.root)
    assert measured.best_row()["quantizer.num_codes"] == 32
    assert [found.config.id for found in measured.all_runs()] == [run.config.id] * 2
    codebooks = codebooks_beside_published({"mine": run}, measured)
    assert codebooks["PSNR (dB)"].tolist()[:2] == [pytest.approx(run.last_epoch_metrics()["psnr"], abs=1e-3), 21.0]
    assert codebooks.index[-1] == "paper, Table 2"
    scaling = scaling_beside_published(measured)
    assert scaling["num_codes"].tolist() == [32, 16, 1024]
    assert scaling["pooled PSNR (dB)"].iloc[-1] == 15.96


def test_time_to_psnr_is_the_first_step_whose_smoothed_batches_reach_the_level() -> None:
    steps = np.arange(1, 2001, 10)
    psnr = 20 + 5 * steps / 2000 + np.where(steps % 20 == 1, 0.8, -0.8)
    rows = pd.DataFrame({"kind": "train", "step": steps, "psnr": psnr})
    times = time_to_psnr(rows, 91, 182_000, 60.0)
    smoothed = np.convolve(psnr, np.ones(11) / 11, "same")  # 11 batches of 91 images are about 1,000
    expected = steps[5:-5][smoothed[5:-5] >= 22][0]
    assert times["images_to_22"] == 91 * expected > 91 * steps[psnr >= 22][0]
    assert times["seconds_to_22"] == pytest.approx(times["images_to_22"] * 60 / 182_000)
    assert times["images_to_24"] > times["images_to_22"]
    assert math.isnan(time_to_psnr(rows[:3], 91, 182_000, 60.0)["images_to_25"])


def test_levels_that_no_run_reached_have_no_column(table: StudyTable) -> None:
    assert list(table.time_to_psnr().columns) == ["seeds"]
    rows = table.rows.assign(images_to_22=1000.0, seconds_to_22=2.5)
    assert list(StudyTable(rows, table.root).time_to_psnr().columns) == ["seeds", "images to 22 dB", "seconds to 22 dB"]
