"""The list of Runs, its conditions, two Runs side by side, and the removal of a Run."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from command_processes import vqlab
from filelock import FileLock
from test_training import tiny

from vqlab import InputError, Run, train
from vqlab.analysis.run_list import compare_runs, list_runs
from vqlab.training.removal import remove_run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished Runs, one without a checkpoint, one with a damaged config.json, and a folder that is no Run."""
    root = tmp_path_factory.mktemp("listed")
    for kind in ("rotation", "straight_through"):
        train(tiny(**{"quantizer.transport": kind}), root, "cpu")
    Run.create(root / tiny(seed=7).id, tiny(seed=7))
    (root / "damaged").mkdir()
    (root / "damaged/config.json").write_text("{")
    (root / "notes").mkdir()
    (root / ".removed-damaged-1").mkdir()
    (root / ".removed-damaged-1/config.json").write_text("{")
    return root


def test_every_run_has_a_row_with_state_numbers_size_and_age(root: Path) -> None:
    table = list_runs(root).set_index("run")
    assert sorted(table["state"]) == ["damaged", "finished", "finished", "unfinished"]
    run = Run.open(root / tiny(**{"quantizer.transport": "rotation"}).id)
    row = table.loc[run.folder.name]
    assert row["psnr"] == run.last_epoch_metrics()["psnr"]
    assert row["mib"] == pytest.approx(
        sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file()) / 2**20
    )
    assert (row["kind"], row["codes"], row["data"], row["seed"]) == (
        "vqvae", f"rotation, {run.config.quantizer.num_codes}", "photos", 0,
    )  # fmt: skip
    assert 0 <= row["days"] < 1


@pytest.mark.parametrize(
    ("where", "count"),
    [
        ((), 4), (("state=finished",), 2), (("state!=finished",), 2), (("seed=7",), 1), (("psnr>0",), 2),
        (("quantizer.transport=rotation", "state = finished"), 1), (("psnr > 0", "psnr<0"), 0),
        (("optim.epochs>=1",), 3),
    ],
)  # fmt: skip
def test_conditions_leave_out_runs(root: Path, where: tuple[str, ...], count: int) -> None:
    assert len(list_runs(root, where)) == count


def test_the_order_is_that_of_a_column(root: Path) -> None:
    values = list_runs(root, ["state=finished"], sort="-psnr")["psnr"].tolist()
    assert values == sorted(values, reverse=True)
    assert list_runs(root)["days"].is_monotonic_increasing


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"where": ["colour=red"]}, "where=colour: must be one of run, state"), ({"where": ["psnr"]}, "as psnr>26"),
        ({"where": ["psnr>high"]}, "'high' must be a number"), ({"sort": "beauty"}, "sort=beauty: must be one of run"),
    ],
)  # fmt: skip
def test_a_wrong_condition_or_column_is_named(root: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        list_runs(root, **options)


def test_two_runs_are_compared_by_what_differs(root: Path) -> None:
    one, other = (root / tiny(**{"quantizer.transport": kind}).id for kind in ("rotation", "straight_through"))
    table = compare_runs(one, other)
    assert table.loc["quantizer.transport"].tolist() == ["rotation", "straight_through"]
    assert [name for name in table.index if "." in name] == ["quantizer.transport"]
    assert table.loc["PSNR (dB)"].tolist() == [Run.open(run).last_epoch_metrics()["psnr"] for run in (one, other)]


def test_the_commands_print_and_write_the_tables(root: Path, tmp_path: Path) -> None:
    listed = vqlab("runs", "--runs", str(root), "--where", "state=finished", "--table", str(tmp_path / "t.csv"))
    assert (listed.returncode, listed.stdout.count("finished")) == (0, 2)
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["finished", "finished"]
    compared = vqlab("compare", *(str(root / row["run"]) for row in rows))
    assert "| quantizer.transport |" in compared.stdout


def test_a_run_is_removed_whole_after_a_question(tmp_path: Path) -> None:
    config = tiny(seed=9)
    folder = Run.create(tmp_path / config.id, config).folder
    (tmp_path / "other").mkdir()
    (tmp_path / f".removed-killed-{2**31}").mkdir()
    with FileLock(folder / ".lock"), pytest.raises(InputError, match="is being trained"):
        remove_run(folder)
    assert json.loads((folder / "config.json").read_text())["id"] == config.id
    refused = vqlab("remove", str(folder), str(tmp_path / "other"), "--yes")
    assert (refused.returncode, folder.is_dir()) == (2, True), "a folder that is no Run is named before any is removed"
    assert vqlab("remove", str(folder), "--yes").returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    with pytest.raises(InputError, match="is not a Run"):
        remove_run(tmp_path / "other")
    assert (tmp_path / "other").is_dir()
