"""The named studies: one command gives a README's table, and nothing is trained where only a look is asked."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from test_cli import vqlab
from test_training import TINY, tiny

from vqlab import InputError
from vqlab.studies.markdown import markdown
from vqlab.studies.named import describe_differences, named_study, perceptual_weights, summary_table
from vqlab.studies.study import Study

SCALE = [f"--set={name}={value}" for name, value in TINY.items()]
COMMAND = ("study", "collapsing", "--seeds", "2", *SCALE, "--set", "optim.epochs=1")


@pytest.mark.parametrize("name", ["reconstruction", "transports", "collapsing", "generation", "perceptual"])
def test_every_named_study_is_made_of_configs_at_both_scales(name: str) -> None:
    for profile, seeds in (("quick", 2), ("paper", 3)):
        study = named_study(name, profile)
        assert len({config.id for _, _, config in study.configs()}) == len(study.arms) * seeds


def test_tables_2_and_3_are_at_the_papers_epochs_and_their_difference_is_the_transport() -> None:
    epochs = {name: named_study(name, "paper").base.optim.epochs for name in ("reconstruction", "transports")}
    assert epochs == {"reconstruction": 3, "transports": 2}
    rrt, other = (config.model_dump() for _, _, config in named_study("reconstruction", "paper", (0,)).configs())
    assert {rrt["quantizer"].pop("transport"), other["quantizer"].pop("transport")} == {"rotation", "straight_through"}
    assert rrt == other


def test_an_unknown_study_names_those_there_are() -> None:
    with pytest.raises(InputError, match=r"study='nothing'.*reconstruction"):
        named_study("nothing")


def test_one_command_trains_the_table_and_the_next_only_reads_it(tmp_path: Path) -> None:
    page, rows = tmp_path / "table.md", tmp_path / "rows.csv"
    runs = ("--runs", str(tmp_path / "runs"))
    empty = vqlab(*COMMAND, *runs, "--so-far")
    assert empty.returncode == 2
    assert "not finished yet" in empty.stderr
    assert not (tmp_path / "runs").exists()

    done = vqlab(*COMMAND, *runs, "--table", str(page))
    assert done.returncode == 0, done.stderr
    assert "[4/4]" in done.stdout
    assert page.read_text().strip() in done.stdout
    assert "over 2 seeds" in done.stdout
    assert [line.split("|")[1].strip() for line in page.read_text().splitlines()] == [
        "", "---", "RRT", "straight-through",
    ]  # fmt: skip

    again = vqlab(*COMMAND, *runs, "--so-far", "--table", str(rows))
    assert page.read_text().strip() in again.stdout
    assert pd.read_csv(rows)["psnr"].notna().sum() == 4


def test_a_table_of_unknown_kind_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    done = vqlab(*COMMAND, "--runs", str(tmp_path / "runs"), "--table", str(tmp_path / "table.xls"))
    assert done.returncode == 2
    assert ".csv or .md" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_the_perceptual_table_says_what_the_term_costs(tmp_path: Path) -> None:
    weights = perceptual_weights("quick")[:2]
    study = Study(tiny(), {f"weight {weight:g}": {"loss.classifier": weight} for weight in weights})
    result = study.run(tmp_path, "cpu")
    cost = summary_table("perceptual", result)["perceptual term (ms a step)"]
    assert cost["weight 0"] == "0"
    assert float(cost["weight 0.03"]) > 0
    assert describe_differences(result, ("psnr",))[0].startswith("weight 0 − weight 0.03")


def test_markdown_keeps_columns_apart_and_rounds_numbers() -> None:
    table = pd.DataFrame({"a|b": ["x|y"], "PSNR (dB)": [23.45678], "K": [1024]}, index=["RRT"])
    assert markdown(table).splitlines()[2] == r"| RRT | x\|y | 23.46 | 1024 |"
    assert markdown(table, index=False).count("\n") == 2
