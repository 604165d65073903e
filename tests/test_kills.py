"""Commands that are killed at any moment: the same command ends with the same weights, rows and tables.

Every case is killed several times, by time or at an exact place of a write, then runs to its end. ``pytest -m kills``
runs all cases; the normal tests the first of each command.
"""

from __future__ import annotations

import json
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import torch
from command_processes import TINY, Command, Kill, settings

from vqlab.training import Run
from vqlab.training.files import read_tensors
from vqlab.training.logs import read_rows

PRIOR = {"prior.kind": "transformer", "prior.width": 16, "prior.layers": 1, "prior.epochs": 3, "prior.batch_size": 8}
COMMANDS = {
    "train": ["train", *settings(TINY)],
    "prior": ["train", *settings({**TINY, **PRIOR})],
    "study": ["study", "transports", "--seeds", "2", *settings({**TINY, "optim.epochs": 1})],
    "grid": ["grid", "own", "--axis", "quantizer.beta=[0.25,0.5,1]", *settings({**TINY, "optim.epochs": 1})],
    "tune": ["tune", "--trials", "3", "--over", "quantizer.beta=[0.25,0.5]", *settings({**TINY, "optim.epochs": 1})],
}
HAS_TABLE = ("study", "grid")
# Columns that say how long it took, or how much a second.
TIMES = ("second", "memory")
PLACES = [
    ("before", "replace"), ("after", "replace"), ("before", "fsync"), ("inside", "fsync"), ("after", "fsync"),
    ("before", "row"), ("inside", "row"), ("after", "row"),
]  # fmt: skip
SHORT = {"train": 5, "prior": 2, "grid": 3}
# 75 kills, of which those by time may come after the end.
FULL = {"train": 24, "prior": 15, "study": 12, "grid": 14, "tune": 10}
KILLS_PER_CASE = 5


@dataclass(frozen=True)
class Uninterrupted:
    """What a command gives that nobody kills: its folder, its seconds, and how often each place is passed."""

    root: Path
    seconds: float
    counts: dict[str, int]


_RESULTS: dict[str, Uninterrupted] = {}


def words(name: str, root: Path) -> list[str]:
    table = ["--table", str(root / "table.csv")] if name in HAS_TABLE else []
    return [*COMMANDS[name], "--runs", str(root), "--device", "cpu", *table]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    # The server of the processes imports what it needs before anything is timed.
    Command(["config", "seed"], folder / "warm-up.txt").wait(300)
    return folder


def uninterrupted(name: str, folders: Path) -> Uninterrupted:
    if name not in _RESULTS:
        root, counts = folders / name, folders / f"{name}.json"
        root.mkdir()
        start = time.monotonic()
        command = Command(words(name, root), folders / f"{name}.txt", counts=counts)
        assert command.wait(300) == 0, command.text()
        _RESULTS[name] = Uninterrupted(root, time.monotonic() - start, json.loads(counts.read_text()))
    return _RESULTS[name]


def killed(command: list[str], output: Path, choices: random.Random, expected: Uninterrupted, number: int) -> bool:
    """Run a command and kill it: every third time after a random time, else at a place; whether it was killed."""
    if number % 3 == 2:
        process = Command(command, output)
        process.process.join(choices.uniform(0.1, expected.seconds / KILLS_PER_CASE))
        process.process.kill()
        return process.wait() == -signal.SIGKILL
    when, what = PLACES[(number - number // 3) % len(PLACES)]
    # A process that goes on has less to do than the first one, and all are to be killed before the end.
    last = max(1, expected.counts[what] // (2 * KILLS_PER_CASE))
    process = Command(command, output, Kill(when, what, choices.randint(1, last)))
    status = process.wait(300)
    assert status in (0, -signal.SIGKILL), process.text()
    return status == -signal.SIGKILL


def compare_runs(root: Path, expected: Path) -> None:
    names = sorted(path.parent.name for path in expected.glob("*/config.json"))
    assert sorted(path.parent.name for path in root.glob("*/config.json")) == names
    for name in names:
        run, other = Run.open(root / name), Run.open(expected / name)
        assert run.finished == other.finished
        weights, other_weights = (
            read_tensors(each.folder / ("model.safetensors" if run.finished else "checkpoint.safetensors"))[0]
            for each in (run, other)
        )
        assert list(weights) == list(other_weights)
        assert all(torch.equal(weights[key], other_weights[key]) for key in weights)
        for log in ("metrics.jsonl", "angles.jsonl"):
            rows, other_rows = (
                [(row.get("kind"), row["step"], row.get("loss"), row.get("psnr")) for row in read_rows(folder / log)]
                for folder in (run.folder, other.folder)
            )
            assert rows == other_rows
        if run.config.kind == "vqvae":
            assert (run.usage() == other.usage()).all()


def compare_tables(table: Path, expected: Path) -> None:
    rows, other = pd.read_csv(table), pd.read_csv(expected)
    columns = [column for column in rows if not any(word in column for word in TIMES)]
    pd.testing.assert_frame_equal(rows[columns], other[columns])


def check(name: str, kills: int, seed: int, folders: Path, root: Path) -> int:
    """Kill a command ``kills`` times, let it end and compare; the number of processes that were killed before."""
    expected, choices = uninterrupted(name, folders), random.Random(seed)
    command, output = words(name, root), root.with_suffix(".txt")
    root.mkdir()
    count = sum(killed(command, output, choices, expected, seed * KILLS_PER_CASE + number) for number in range(kills))
    last = Command(command, output)
    assert last.wait(300) == 0, last.text()
    compare_runs(root, expected.root)
    if name in HAS_TABLE:
        compare_tables(root / "table.csv", expected.root / "table.csv")
    assert not list(root.rglob("*.part"))
    print(f"{name}: {count} of {kills} processes killed")
    return count


def test_ten_kills_change_nothing(folders: Path, tmp_path: Path) -> None:
    counts = {
        name: check(name, kills, number, folders, tmp_path / name) for number, (name, kills) in enumerate(SHORT.items())
    }
    assert sum(counts.values()) >= 8


@pytest.mark.kills
@pytest.mark.parametrize("name", FULL)
def test_many_kills_change_nothing(folders: Path, tmp_path: Path, name: str) -> None:
    kills, count = FULL[name], 0
    for seed in range(-(-kills // KILLS_PER_CASE)):
        number = min(KILLS_PER_CASE, kills - seed * KILLS_PER_CASE)
        count += check(name, number, seed, folders, tmp_path / str(seed))
    # Of 75 processes at least 50 are killed before their end.
    assert count >= 0.7 * kills
