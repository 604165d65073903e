"""A disk that is full at any moment: one line names the file, and the same command goes on when there is space."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from command_processes import TINY, Command, settings
from test_training import same_weights

from vqlab import Config, Run, train
from vqlab.training.logs import read_rows

CONFIG = Config.profile("quick", **TINY)
GRID = ["grid", "own", "--axis", "quantizer.beta=[0.25,0.5]"]
SIZE = 4 << 20


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no small file system: {error}")
    if mounted.returncode:
        pytest.skip(f"no small file system: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def root(disk: Path) -> Iterator[Path]:
    """A folder on the small disk, which is empty before and after."""
    yield disk / "runs"
    for path in sorted(disk.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(CONFIG, tmp_path_factory.mktemp("uninterrupted"), "cpu")


def leave(disk: Path, free: int) -> None:
    """Fill a file system up to ``free`` bytes."""
    (disk / "filler").write_bytes(bytes(SIZE - free))


# The files of the Run: 6 kB of Config and logs, 90 kB of each checkpoint, then the weights.
@pytest.mark.parametrize("free_kib", [0, 4, 8, 16, 40, 100, 130, 160])
def test_a_training_goes_on_after_the_disk_was_full(
    disk: Path, root: Path, tmp_path: Path, expected: Run, free_kib: int
) -> None:
    root.mkdir()
    leave(disk, free_kib << 10)
    words = ["train", "--runs", str(root), "--device", "cpu", *settings(TINY)]
    command = Command(words, tmp_path / "output")
    status, lines = command.wait(), [line for line in command.text().splitlines() if not line.startswith("step ")]
    assert status == 1, command.text()
    assert len(lines) == 1
    assert "No space left on device" in lines[0]
    assert str(root) in lines[0]
    (disk / "filler").unlink()
    assert not list(root.glob("*/.*.part"))
    again = Command(words, tmp_path / "output")
    assert again.wait() == 0, again.text()
    run = Run.open(root / CONFIG.id)
    assert same_weights(run, expected)
    steps = [(row["kind"], row["step"]) for row in read_rows(run.folder / "metrics.jsonl")]
    assert steps == [(row["kind"], row["step"]) for row in read_rows(expected.folder / "metrics.jsonl")]
    for path in sorted(root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


# KiB. Each trains a grid twice in processes of its own.
SPACE = [0, 8, 160, *(pytest.param(kib, marks=pytest.mark.slow) for kib in (4, 16, 40, 100, 240))]


@pytest.mark.parametrize("free_kib", SPACE)
def test_the_points_of_a_grid_go_back_to_the_queue(disk: Path, root: Path, tmp_path: Path, free_kib: int) -> None:
    root.mkdir()
    leave(disk, free_kib << 10)
    table = tmp_path / "table.csv"
    words = [*GRID, "--runs", str(root), "--device", "cpu", "--table", str(table), *settings(TINY)]
    command = Command(words, tmp_path / "output")
    assert command.wait() == 1, command.text()
    assert "Traceback" not in command.text()
    assert "No space left on device" in command.text().strip().splitlines()[-1]
    (disk / "filler").unlink()
    again = Command(words, tmp_path / "output")
    assert again.wait() == 0, again.text()
    rows = pd.read_csv(table, keep_default_na=False)
    assert list(rows["error"]) == ["", ""]


def test_a_journal_with_half_a_line_is_cut_by_the_next_writer(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    words = [*GRID, "--runs", str(tmp_path), "--device", "cpu", "--table", str(table), *settings(TINY)]
    assert Command(words, tmp_path / "output").wait() == 0
    journal, rows = tmp_path / "studies.journal", table.read_text()
    content = journal.read_bytes()
    os.truncate(journal, len(content) - 5)
    for _ in range(2):
        again = Command(words, tmp_path / "output")
        assert again.wait() == 0, again.text()
        assert table.read_text() == rows
    assert journal.read_bytes().endswith(b"\n")
