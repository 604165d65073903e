"""Runs whose files a loss of power left empty, half written or full of NULs: each trains on to the same weights."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vqlab.config import Config
from vqlab.errors import InputError
from vqlab.training import Run, train
from vqlab.training.checkpoint import CHECKPOINT_FILE, PREVIOUS_FILE
from vqlab.training.files import read_tensors, write_tensors

CONFIG = Config.profile(
    "quick",
    **{
        "data.train_limit": 48, "data.test_limit": 16, "optim.epochs": 2, "optim.batch_size": 8, "model.hidden": 16,
        "model.residual_hidden": 8, "quantizer.num_codes": 16, "evaluation.checkpoint_every": 2,
        "evaluation.log_every": 1,
    },
)  # fmt: skip
DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "NULs": lambda content: bytes(len(content)),
    "tail of NULs": lambda content: content[: len(content) // 2] + bytes(len(content) - len(content) // 2),
    "missing": lambda content: None,
}
STEPS = {"half-trained": 7, "finished": None}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The root folders of a Run that was stopped after 7 of 12 steps and of one that is finished."""
    roots = {state: tmp_path_factory.mktemp(state.replace("-", "_")) for state in STEPS}
    for state, steps in STEPS.items():
        run = train(CONFIG, roots[state], "cpu", stop_after_steps=steps)
        if run.finished:
            run.evaluation("cpu", inception=False)
    return roots


def files(root: Path) -> list[str]:
    return sorted(path.name for path in (root / CONFIG.id).iterdir() if path.is_file() and path.name[0] != ".")


CASES = [
    *(("half-trained", name) for name in ("angles.jsonl", CHECKPOINT_FILE, PREVIOUS_FILE, "codebook.npz",
                                          "config.json", "metrics.jsonl", "provenance.json")),
    *(("finished", name) for name in ("angles.jsonl", CHECKPOINT_FILE, "codebook.npz", "config.json",
                                      "evaluation.json", "metrics.jsonl", "model.safetensors", "provenance.json")),
]  # fmt: skip


def test_every_file_of_a_run_is_a_case(runs: dict[str, Path]) -> None:
    assert sorted(CASES) == sorted((state, name) for state, root in runs.items() for name in files(root))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("state", "name"), CASES)
def test_a_damaged_file_costs_no_weights(
    runs: dict[str, Path], tmp_path: Path, state: str, name: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs[state], tmp_path, dirs_exist_ok=True)
    path = tmp_path / CONFIG.id / name
    content = DAMAGES[damage](path.read_bytes())
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    resumed, expected = train(CONFIG, tmp_path, "cpu"), Run.open(runs["finished"] / CONFIG.id)
    assert resumed.finished
    weights, expected_weights = (read_tensors(run.folder / "model.safetensors")[0] for run in (resumed, expected))
    torch.testing.assert_close(weights, expected_weights, rtol=0, atol=0)
    assert (resumed.usage() == expected.usage()).all()
    if not name.endswith(".jsonl"):
        columns = ["kind", "step", "loss"]
        assert resumed.metrics()[columns].equals(expected.metrics()[columns])
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) <= 1
    assert all(name in line for line in lines)
    resumed.evaluation("cpu", inception=False)


def test_two_damaged_checkpoints_start_the_training_again(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs["half-trained"], tmp_path, dirs_exist_ok=True)
    for name in (CHECKPOINT_FILE, PREVIOUS_FILE):
        (tmp_path / CONFIG.id / name).write_bytes(b"")
    assert train(CONFIG, tmp_path, "cpu").finished
    assert "starts again from step 0" in capsys.readouterr().err


def test_a_changed_bit_of_a_tensor_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_tensors(path, {"weight": torch.arange(1000.0)})
    content = bytearray(path.read_bytes())
    content[-7] ^= 4
    path.write_bytes(content)
    with pytest.raises(InputError, match="checksum"):
        read_tensors(path)


def test_files_have_the_permissions_of_new_files(runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "new").touch()
    mode = (tmp_path / "new").stat().st_mode
    folder = runs["finished"] / CONFIG.id
    assert {name: (folder / name).stat().st_mode for name in files(runs["finished"])} == dict.fromkeys(
        files(runs["finished"]), mode
    )


def test_files_that_a_killed_process_left_are_removed(runs: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(runs["half-trained"], tmp_path, dirs_exist_ok=True)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = [tmp_path / CONFIG.id / f".{name}.{ended.pid}.part" for name in (CHECKPOINT_FILE, "config.json")]
    # Of a process that may still be writing, without the lock.
    kept = tmp_path / CONFIG.id / f".config.json.{os.getpid()}.part"
    for path in (*left, kept):
        path.write_bytes(b"half")
    train(CONFIG, tmp_path, "cpu")
    assert [path for path in (*left, kept) if path.exists()] == [kept]
