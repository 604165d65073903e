"""A Run trained again elsewhere: equal to the bit, or told apart number by number."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from command_processes import vqlab
from safetensors.torch import load_file

from vqlab import Config, InputError, Run, train
from vqlab.analysis import reproduce
from vqlab.training.files import write_tensors

SMALL = {
    "data.train_limit": 64, "data.test_limit": 32, "model.hidden": 16, "model.residual_hidden": 8, "quantizer.dim": 8,
    "quantizer.num_codes": 16, "optim.epochs": 1,
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Run:
    trained = train(Config.profile("quick", **SMALL), tmp_path / "runs", "cpu")
    trained.evaluation("cpu", inception=False)
    return trained


def test_a_run_is_reproduced_to_the_bit(run: Run, tmp_path: Path) -> None:
    result = reproduce(run, tmp_path / "again")
    assert result.reproduced
    assert (result.numbers["difference"].abs() <= 1e-12).all()
    assert result.second.folder == tmp_path / "again" / run.config.id
    assert {"weights", "psnr", "ssim", "rfd_classifier", "perplexity"} <= set(result.numbers.index)
    assert not any("seconds" in name for name in result.numbers.index)
    assert "is reproduced: weights equal to the bit" in result.sentence()
    assert torch.__version__.startswith(result.conditions().loc["torch", "now"])


def test_other_weights_are_found(run: Run, tmp_path: Path) -> None:
    path = run.folder / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name, weights in tensors.items() if weights.is_floating_point() and weights.dim() == 4)
    tensors[name] = tensors[name] + 0.5
    write_tensors(path, tensors)
    result = reproduce(run, tmp_path / "again")
    assert not result.reproduced
    assert result.numbers.loc["weights", "difference"] == pytest.approx(0.5, rel=1e-5)
    assert "is not reproduced: weights within 0.5" in result.sentence()


def test_the_command_ends_with_the_answer_as_its_status(run: Run, tmp_path: Path) -> None:
    command = ["reproduce", str(run.folder), "--runs"]
    same = vqlab(*command, str(tmp_path / "again"))
    assert (same.returncode, "is reproduced" in same.stdout) == (0, True), same.stderr
    own = vqlab(*command, str(run.folder.parent))
    assert own.returncode == 2
    assert "give another folder" in own.stderr


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    begun = train(Config.profile("quick", **SMALL), tmp_path / "runs", "cpu", stop_after_steps=1)
    with pytest.raises(InputError, match="has not finished"):
        reproduce(begun, tmp_path / "again")
