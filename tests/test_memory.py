"""Memory of a training: estimated before it begins, and refused with the field to lower if the machine has less."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from bad_input import run_command
from command_processes import settings
from test_training import TINY, tiny

from vqlab import Config, InputError, train
from vqlab.studies import Range, Study, Tuning
from vqlab.training.memory_estimate import estimate_memory

LARGE = {
    "quantizer.num_codes": ({"quantizer.num_codes": 1 << 20, "quantizer.dim": 4096}, 3 * 16),
    "optim.batch_size": ({"optim.batch_size": 65_536, "data.image_size": 512, "model.hidden": 512}, 10_000),
    "prior.width": ({"prior.kind": "transformer", "prior.width": 4096, "prior.layers": 64}, 300),
}


@pytest.mark.parametrize("field", LARGE)
def test_the_estimate_counts_the_largest_tensors(field: str) -> None:
    changes, gibibytes = LARGE[field]
    images = 65_536 if field == "optim.batch_size" else 100
    estimate = estimate_memory(Config.profile("paper", **changes), "cpu", images, 100, 0)
    assert gibibytes < estimate.total / 2**30 < 100 * gibibytes


def test_a_training_that_needs_more_than_the_machine_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(**{"quantizer.num_codes": 1 << 20, "quantizer.dim": 4096})
    monkeypatch.setattr("vqlab.training.memory_estimate.total_memory", lambda: 8 << 30)
    with pytest.raises(
        InputError, match=r"needs about \d+\.\d GiB .* has 8\.0 GiB; lower quantizer\.num_codes"
    ) as caught:
        train(config, tmp_path, "cpu")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr("vqlab.training.memory_estimate.total_memory", lambda: 1 << 20)
    with pytest.raises(InputError, match="--force"):
        train(tiny(), tmp_path, "cpu", stop_after_steps=1)
    assert train(tiny(), tmp_path, "cpu", stop_after_steps=1, force=True).provenance["step"] == 1


@pytest.mark.parametrize(
    "changes",
    [{}, {"model.kind": "vae"}, {"model.kind": "gan"}, {"prior.kind": "transformer"}, {"prior.kind": "diffusion"},
     {"model.block": "prenorm"}],
)  # fmt: skip
def test_every_kind_has_an_estimate(changes: dict[str, object]) -> None:
    estimate = estimate_memory(Config.profile("paper", **changes), "cpu", 128, 128, 0)
    assert 0 < estimate.network < 2**30
    assert 0 < estimate.training < 8 * 2**30


SMALL = [*settings({**TINY, "optim.epochs": 1, "data.train_limit": 32}), "--device", "cpu", "--runs", "runs"]
TOO_LARGE = {
    "study": (["study", "reconstruction", "--seeds", "2", "--set", "quantizer.num_codes=1048576"], "arm RRT"),
    "grid": (["grid", "own", "--axis", "quantizer.num_codes=[16,1048576,32]"], "num_codes=1048576"),
    "tune": (["tune", "--trials", "2", "--over", 'quantizer.num_codes={"low":16,"high":1048576,"log":true}'],
             "num_codes=1048576"),
    "train": (["train", "--set", "prior.kind=transformer", "--set", "prior.width=4096", "--set", "prior.layers=64"],
              "the prior's training"),
}  # fmt: skip
ENOUGH = {
    "study": ["study", "reconstruction", "--seeds", "1"],
    "grid": ["grid", "own", "--axis", "quantizer.num_codes=[16,32]"],
    "tune": ["tune", "--trials", "1", "--over", "quantizer.num_codes=[16,32]"],
    "train": ["train"],
}


@pytest.mark.parametrize("command", TOO_LARGE)
def test_the_largest_training_is_named_before_the_first_one(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, named = TOO_LARGE[command]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vqlab.training.memory_estimate.total_memory", lambda: 560 << 20)
    outcome = run_command([words[0], *SMALL, *words[1:]])
    assert (outcome.status, outcome.error) == (2, "")
    (line,) = outcome.lines
    assert line.startswith(f"vqlab: {named}")
    assert "has 0.5 GiB; lower " in line
    assert not list(tmp_path.rglob("*.safetensors"))
    assert not list(tmp_path.rglob("studies.journal"))


@pytest.mark.parametrize("command", ENOUGH)
def test_force_trains_all_the_same_and_finished_runs_need_none(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [ENOUGH[command][0], *SMALL, *ENOUGH[command][1:]]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vqlab.training.memory_estimate.total_memory", lambda: 1 << 20)
    assert run_command(words).status == 2
    forced = run_command([*words, "--force"])
    assert forced.status == 0, forced
    trained = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("model.safetensors")}
    assert len(trained) == (1 if command in ("train", "tune") else 2)
    if command != "tune":  # the other choice is not trained yet
        assert run_command(words).status == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("model.safetensors")} == trained


def test_a_point_that_two_fields_make_too_large_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    space = {"quantizer.num_codes": Range(16, 1 << 19, log=True), "quantizer.dim": (8, 512)}
    monkeypatch.setattr("vqlab.training.memory_estimate.total_memory", lambda: 2 << 30)
    with pytest.raises(InputError, match=r"^num_codes=524288, dim=512: training needs about 6\.\d GiB"):
        Tuning("both", tiny(), space, 1).run(tmp_path, "cpu")


def test_an_arm_that_lacks_a_package_does_not_keep_the_others_from_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    study = Study(tiny(), {"plain": {}, "diffusion": {"prior.kind": "diffusion"}}, (0,))
    errors = study.run(tmp_path, "cpu").rows.set_index("arm")["error"]
    assert (errors["plain"], "pip install" in errors["diffusion"]) == ("", True)


def test_a_run_that_was_forced_is_reproduced_by_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vqlab.training.memory_estimate.total_memory", lambda: 1 << 20)
    run = train(tiny(), tmp_path / "runs", "cpu", force=True)
    words = ["reproduce", str(run.folder), "--runs", str(tmp_path / "again")]
    assert run_command(words).status == 2
    assert run_command([*words, "--force"]).status == 0
