"""The tables that were measured once and are part of the package, and what is drawn and said of them."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from vqlab import InputError
from vqlab.plots import rotation_benefit, study_intervals
from vqlab.report import leaderboard_finding
from vqlab.studies import (
    STUDY_NAMES,
    StudyTable,
    claims_beside_measured,
    measured_study,
    named_study,
    published_rotation,
    summary_table,
)
from vqlab.studies.health import WITH_RRT
from vqlab.studies.measured import COMMANDS
from vqlab.studies.measures import format_interval

ROOT = Path(__file__).parents[1]
NAMES = ("families", "families_double", "rules", "health")


@pytest.mark.parametrize("name", NAMES)
def test_a_measured_table_has_the_rows_of_its_study_and_all_are_finished(name: str) -> None:
    study = measured_study(name)
    rows = [(arm, seed) for arm, seed, _ in named_study(name, "best").configs()]
    assert list(zip(study.rows["arm"], study.rows["seed"], strict=True)) == rows
    assert (study.rows["error"] == "").all()
    assert study.left_out() == []
    assert (
        study.rows[["psnr", "ssim", "rfd_classifier", "cvu", "parameters", "quantization_error"]]
        .notna()
        .to_numpy()
        .all()
    )
    assert summary_table(name, study).shape[0] == len(named_study(name, "best").arms)


@pytest.mark.parametrize("name", NAMES)
def test_the_bits_of_the_measured_rows_are_those_of_their_configs(name: str) -> None:
    study = measured_study(name)
    for arm, seed, config in named_study(name, "best").configs():
        row = study.rows[(study.rows["arm"] == arm) & (study.rows["seed"] == seed)].iloc[0]
        assert row["bits_a_vector"] == config.quantizer.bits
        assert row["cvu"] <= 1


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_prints_the_measured_rows(name: str) -> None:
    page = (ROOT / ("README.md" if name == "families" else "notebooks/README.md")).read_text()
    psnr = measured_study(name).formatted(("psnr",))["PSNR (dB)"]
    for arm, value in psnr.items():
        assert f"\n| {arm} | {value} | " in page


def test_commands_name_a_study_and_their_table() -> None:
    for name, command in COMMANDS.items():
        assert name in STUDY_NAMES
        assert command.startswith(f"vqlab study {name} --profile best")
        assert command.endswith(f"--table {name}.csv")


def test_a_study_that_was_not_measured_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"measured_study\('paper'\): must be one of families, .*health"):
        measured_study("paper")


def test_the_finding_says_where_its_rows_were_measured_and_what_rrt_changes() -> None:
    finding = leaderboard_finding(measured_study("families"))
    assert finding.content["provenance"]["versions"]["torch"] == ["2.11.0"]
    assert finding.content["provenance"]["devices"] == ["cuda"]
    assert finding.content["provenance"]["data"] == [{"name": "cifar", "fingerprint": "eec90e10bd2f5438"}]
    assert "nearest code has the highest PSNR of 11 quantizers" in finding.sentence
    assert "RRT lowers PSNR in 3 of 3 families" in finding.sentence


@pytest.mark.parametrize(("change", "lowered"), [(-1.0, 1), (1.0, 0)])
def test_the_finding_counts_the_families_that_rrt_makes_worse(change: float, lowered: int) -> None:
    rows = [
        {"arm": arm, "seed": seed, "error": "", "psnr": level + 0.01 * seed * seed, "rfd_classifier": 1.0}
        for arm, level in {"nearest code": 25.0, "nearest code, RRT": 25.0 + change, "SimVQ": 20.0}.items()
        for seed in range(3)
    ]
    for row in rows[3:6]:
        row["psnr"] += 0.001 * row["seed"]
    measured_on = {"data": "cifar", "data_fingerprint": "0", "device": "cpu", "packages": {}}
    finding = leaderboard_finding(StudyTable(pd.DataFrame(rows), Path("runs"), measured_on))
    assert f"RRT lowers PSNR in {lowered} of 1 families" in finding.sentence


def test_claims_are_put_beside_the_measured_table() -> None:
    claims = claims_beside_measured(measured_study("families"))
    psnr = measured_study("families").rows.set_index(["arm", "seed"])["psnr"]
    row = claims[claims["measure"] == "PSNR (dB)"].loc["FSQ"]
    assert row["verdict"] == "agrees"
    assert row["measured difference"].startswith(f"{(psnr['FSQ'] - psnr['nearest code']).mean():+.3g} [")


def test_published_results_of_the_rotation_name_the_better_transport_by_the_sense_of_the_measure() -> None:
    table = published_rotation()
    for (_, _, measure), row in table.iterrows():
        higher_is_better = measure in ("codes in use (%)", "PSNR (dB)")
        gain = row["RRT"] - row["straight-through"]
        expected = "equal" if gain == 0 else "RRT" if (gain > 0) == higher_is_better else "straight-through"
        assert row["which is better"] == expected


def test_the_figure_of_health_has_the_paired_difference_of_every_codebook() -> None:
    study = measured_study("health")
    panels = rotation_benefit(study).axes
    names = [arm for arm in named_study("health", "best").arms if not arm.endswith(WITH_RRT)]
    assert len(panels) == 4
    for panel, measure in zip(panels, ("psnr", "rfd_classifier", "cvu", "quantization_error"), strict=True):
        for name, bar in zip(names, panel.containers, strict=True):
            values = study.rows.set_index(["arm", "seed"])[measure]
            expected = (values[name + WITH_RRT] - values[name]).mean()
            x, y = (float(part[0]) for part in bar.lines[0].get_data())
            assert y == pytest.approx(expected)
            assert x == pytest.approx(study.rows[study.rows["arm"] == name]["cvu"].mean())


def test_intervals_of_measures_of_codes_are_drawn_with_their_names() -> None:
    panels = study_intervals(measured_study("families"), ("psnr", "cvu")).axes
    assert [panel.get_xlabel() for panel in panels] == ["PSNR (dB)", "CVU (perplexity / K)"]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((1.0, 1.0, 1.0), "1"), ((57_650.0, 54_612.0, 60_688.0), "57,650 [54,610, 60,690]"),
        ((0.12345, 0.1, 0.2), "0.1235 [0.1, 0.2]"), ((26.0, math.nan, math.nan), "26"),
    ],
)  # fmt: skip
def test_intervals_are_written_without_exponents_and_not_where_they_have_no_width(
    values: tuple[float, float, float], text: str
) -> None:
    assert format_interval(*values) == text
