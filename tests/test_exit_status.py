"""Exit status of every command: 2 where another command line is needed, 1 where the work failed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bad_input import run_command
from command_processes import settings
from test_training import TINY, tiny
from typer.main import get_command

from vqlab import Run, train
from vqlab.cli import app
from vqlab.errors import FAILED, USAGE

SMALL = ["--profile", "paper", "--device", "cpu", *settings(TINY)]
DEEP = [*SMALL, *settings({"model.residual_blocks": 16, "optim.epochs": 4})]
DIVERGES = [*DEEP, "--set", "optim.learning_rate=1.0"]

WRONG = {
    "run": ["run", "--only", "99"],
    "train": ["train", "--data", "folder:nowhere"],
    "data": ["data", "nowhere"],
    "evaluate": ["evaluate", "nowhere"],
    "sample": ["sample", "RUN", "--count", "0"],
    "study": ["study", "nothing"],
    "study without images": ["study", "reconstruction", "--data", "folder:nowhere"],
    "study so far": ["study", "reconstruction", "--so-far", "--runs", "empty"],
    "grid": ["grid", "own", "--axis", "quantizer.codes=[1]"],
    "tune": ["tune", "--over", "quantizer.codes=[1]"],
    "bench": ["bench", "--rounds", "0"],
    "doctor": ["doctor", "RUN", "--frobnicate"],
    "reproduce": ["reproduce", "RUN", "--runs", "RUNS"],
    "explore": ["explore", "nowhere"],
    "runs": ["runs", "--runs", "nowhere"],
    "compare": ["compare", "nowhere", "RUN"],
    "remove": ["remove", "nowhere", "--yes"],
    "push": ["push", "nowhere", "store"],
    "pull": ["pull", "nowhere://bucket/run"],
    "lab": ["lab", "--folder", "/dev/null/notebooks"],
    "config": ["config", "quantizers"],
}
# In DAMAGED one file of the Run is cut, named by the last word.
FAILING = {
    "run": (["run", "--data", "folder:cut.zip", "--output", "report"], ""),
    "train": (["train", *DIVERGES], ""),
    "train on damaged images": (["train", "--data", "folder:cut.zip"], ""),
    "train where the system makes no folder": (["train", "--runs", "/proc/runs"], ""),
    "data": (["data", "cut.zip"], ""),
    "evaluate": (["evaluate", "DAMAGED"], "model.safetensors"),
    "sample": (["sample", "DAMAGED"], "config.json"),
    "study": (["study", "reconstruction", "--seeds", "1", *DIVERGES], ""),
    "grid": (["grid", "own", "--axis", "optim.learning_rate=[1.0,0.0001]", *DEEP], ""),
    "tune": (["tune", "--trials", "1", "--over", "optim.learning_rate=[1.0]", *DEEP], ""),
    "tune on a damaged journal": (["tune", "--runs", "damaged", *SMALL], ""),
    "grid without its database": (["grid", "scaling", "--storage", "postgresql://u@127.0.0.1:1/none"], ""),
    "bench": (["bench", "--codes", "8", "--dim", "4", "--vectors", "16", "--threads", "1", "--rounds", "1", "--table",
               "full.csv"], ""),
    "doctor": (["doctor", "DAMAGED"], "codebook.npz"),
    "reproduce": (["reproduce", "DAMAGED"], "provenance.json"),
    "explore": (["explore", "DAMAGED"], "codebook.npz"),
    "compare": (["compare", "RUN", "DAMAGED"], "config.json"),
    "push": (["push", "RUN", "/proc/store"], ""),
    "pull": (["pull", "store/run"], ""),
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tiny(), tmp_path_factory.mktemp("runs"), "cpu")


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "cut.zip").write_bytes(b"PK\3\4" + bytes(40))
    (tmp_path / "full.csv").symlink_to("/dev/full")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/studies.journal").write_text('{"op_code": 99}\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ends(words: list[str], run: Run) -> tuple[int | None, str]:
    places = {"RUN": run.folder, "RUNS": run.folder.parent, "DAMAGED": Path("damaged", run.folder.name)}
    outcome = run_command([str(places.get(word, word)) for word in words])
    assert not outcome.error, outcome.error
    return outcome.status, outcome.lines[-1]


def test_every_command_is_tried() -> None:
    commands = set(get_command(app).commands)  # type: ignore[attr-defined]
    assert {name.partition(" ")[0] for name in WRONG} == commands
    # JupyterLab ends with its own status, lists of settings and Runs cannot fail, and root may remove every file.
    assert {name.partition(" ")[0] for name in FAILING} == commands - {"lab", "config", "runs", "remove"}


@pytest.mark.parametrize("command", WRONG)
def test_a_wrong_command_line_ends_with_2(command: str, finished: Run) -> None:
    status, line = ends(WRONG[command], finished)
    assert (status, line[:7]) == (USAGE, "vqlab: ")


@pytest.mark.parametrize("command", FAILING)
def test_work_that_fails_ends_with_1(command: str, finished: Run, work: Path) -> None:
    words, damaged = FAILING[command]
    folder = work / "damaged" / finished.folder.name
    shutil.copytree(finished.folder, folder)
    if damaged:
        content = (folder / damaged).read_bytes()
        (folder / damaged).write_bytes(content[: len(content) // 2] + b'\n"')
    status, line = ends(words, finished)
    assert (status, line[:7]) == (FAILED, "vqlab: "), line
    assert damaged in line


def test_the_good_rows_of_a_failed_grid_are_printed(finished: Run, capfd: pytest.CaptureFixture[str]) -> None:
    status, line = ends(FAILING["grid"][0], finished)
    assert status == FAILED
    assert line.startswith("vqlab: grid own: 1 of 2 failed (WorkError: training diverged: the loss at step ")
