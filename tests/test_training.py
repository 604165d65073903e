"""Training: reproducible and resumable Runs, and errors of one line."""

import json
import os
import re
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vqlab import Config, InputError, Run, train
from vqlab.data.batches import Batch
from vqlab.training.finite_check import FiniteCheck
from vqlab.training.provenance import _git_commit
from vqlab.training.recipes import StepContext, StepMetrics
from vqlab.training.recipes.vqvae import VQVAERecipe

TINY = {
    "data.train_limit": 96,
    "data.test_limit": 32,
    "optim.batch_size": 16,
    "optim.epochs": 2,
    "model.hidden": 8,
    "model.residual_hidden": 4,
    "quantizer.num_codes": 16,
    "quantizer.dim": 8,
    "quantizer.restart_every": 3,
    "evaluation.log_every": 4,
}


def tiny(**changes: object) -> Config:
    return Config.profile("paper", **{**TINY, **changes})


def same_weights(one: Run, other: Run) -> bool:
    first, second = one.model().state_dict(), other.model().state_dict()
    return all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tiny(), tmp_path_factory.mktemp("runs"), "cpu")


def test_two_trainings_of_one_config_give_the_same_weights(run: Run, tmp_path: Path) -> None:
    assert same_weights(run, train(tiny(), tmp_path, "cpu"))


@pytest.mark.parametrize("steps", [4, 6])
def test_a_stopped_and_resumed_training_gives_the_same_weights(run: Run, tmp_path: Path, steps: int) -> None:
    assert not train(tiny(), tmp_path, "cpu", stop_after_steps=steps).finished
    resumed = train(tiny(), tmp_path, "cpu")
    assert same_weights(run, resumed)
    assert (run.usage() == resumed.usage()).all()
    assert list(run.metrics()["step"]) == list(resumed.metrics()["step"])


def test_a_training_stopped_by_should_stop_resumes_to_the_same_weights(run: Run, tmp_path: Path) -> None:
    answers = iter([False, False, True])
    stopped = train(tiny(), tmp_path, "cpu", should_stop=lambda: next(answers))
    assert stopped.provenance["step"] == 3
    assert not stopped.finished
    assert same_weights(run, train(tiny(), tmp_path, "cpu"))


def test_a_second_training_of_one_config_waits_for_the_first(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    started, resume = threading.Event(), threading.Event()

    def hold(row: dict[str, object]) -> None:
        started.set()
        assert resume.wait(60)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(train, tiny(), tmp_path, "cpu", hold)
        assert started.wait(60)
        stopped = train(tiny(), tmp_path, "cpu", should_stop=lambda: True)
        assert not stopped.finished
        line = f"run {run.config.id}: is being trained by another thread or process; waiting for it\n"
        assert capfd.readouterr().err == line
        resume.set()
        second = train(tiny(), tmp_path, "cpu")
        assert second.finished
        assert same_weights(run, first.result())
    assert list(second.metrics()["step"]) == list(run.metrics()["step"])


def test_a_vqvae_with_unused_prior_fields_is_trained_once(tmp_path: Path) -> None:
    config = tiny(**{"optim.epochs": 1, "prior.width": 16, "prior.heads": 2})
    run = train(config, tmp_path, "cpu")
    assert run.finished
    assert [folder.name for folder in tmp_path.iterdir()] == [config.id]
    assert run.codec() is run


def test_a_finished_run_is_returned_unchanged(run: Run) -> None:
    before = (run.folder / "model.safetensors").stat().st_mtime_ns
    train(run.config, run.folder.parent, "cpu")
    assert (run.folder / "model.safetensors").stat().st_mtime_ns == before


def test_a_run_logs_metrics_usage_and_events(run: Run) -> None:
    rows = run.metrics()
    for name in ("loss", "psnr", "perplexity", "perplexity_window", "utilisation", "relative_error",
                 "gradient_cosine", "fallback_fraction", "images_per_second"):  # fmt: skip
        assert rows[rows["kind"] == "train"][name].notna().all(), name
    assert run.usage().sum(axis=1).tolist() == [96 * 64] * 2
    assert list((run.folder / "events").iterdir())
    assert run.evaluation()["perplexity_window"] == "data set"


def test_a_run_of_another_config_or_a_newer_version_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds config"):
        Run.create(run.folder, tiny(seed=5))
    (tmp_path / "config.json").write_text(json.dumps({"format": 99, "config": {}}))
    with pytest.raises(InputError, match="newer vqlab"):
        Run.open(tmp_path)


def _sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir() if path.name != ".lock"}


@pytest.mark.parametrize("name", ["provenance.json", "model.safetensors", "config.json"])
def test_a_damaged_file_is_named_and_no_file_is_changed_by_reading(run: Run, tmp_path: Path, name: str) -> None:
    folder = tmp_path / run.config.id
    shutil.copytree(run.folder, folder)
    (folder / name).write_bytes((folder / name).read_bytes()[:40])
    before = _sizes(folder)
    with pytest.raises(InputError, match=name):
        Run.open(folder).model()
    assert _sizes(folder) == before


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_of_a_checkout_is_read_without_writing_its_index(tmp_path: Path) -> None:
    """A process that is killed while it writes the index would leave a lock on it."""

    def git(*words: str) -> None:
        person = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *person, *words], check=True)

    (tmp_path / "file").write_text("one")
    git("init", "-q")
    git("add", "file")
    git("commit", "-q", "-m", "one")
    os.utime(tmp_path / "file", (1, 1))  # which git would note in its index
    before = (tmp_path / ".git/index").read_bytes()
    clean = _git_commit(tmp_path)
    assert re.fullmatch(r"[0-9a-f]{12}", clean or "")
    assert (tmp_path / ".git/index").read_bytes() == before
    (tmp_path / "file").write_text("two")
    assert _git_commit(tmp_path) == f"{clean}-dirty"


def test_an_unavailable_device_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="device='nowhere'"):
        train(tiny(), tmp_path, device="nowhere")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantizer.codes": 3}, "unknown config key"),
        ({"quantizer.num_codes": 0}, "quantizer.num_codes=0"),
        ({"quantizer.dim": 0}, "quantizer.dim=0"),
        ({"optim.learning_rate": -1}, "optim.learning_rate=-1"),
        ({"quantizer.transport": "spin"}, "rotation"),
        ({"data.source": "imagenet"}, "folder:PATH"),
    ],
)
def test_an_invalid_config_is_reported_in_one_line(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        Config.profile("paper", **changes)
    assert "\n" not in str(error.value)


def test_a_diverging_training_stops_with_an_error(tmp_path: Path) -> None:
    unstable = {"optim.learning_rate": 1.0, "model.residual_blocks": 16, "optim.epochs": 4}
    with pytest.raises(
        InputError,
        match=r"diverged: the loss at step \d+ is (nan|inf) \(before: .* at step \d+\); lower.*learning_rate",
    ):
        train(tiny(**unstable), tmp_path, "cpu")


class NanAt(VQVAERecipe):
    """Trains as a VQ-VAE does, but the images of two steps are not finite."""

    def step(self, batch: Batch, context: StepContext, *, logging: bool) -> StepMetrics | None:
        images, labels = batch
        if context.step in (0, 5):
            images = images * float("nan")
        return super().step((images, labels), context, logging=logging)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_steps_that_are_not_finite_are_skipped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    monkeypatch.setattr("vqlab.training.recipes.vqvae.VQVAERecipe", NanAt)
    config = tiny(
        **{"optim.on_nonfinite": "skip", "optim.optimizer": optimizer, "optim.ema": 0.9, "evaluation.log_every": 1}
    )
    run = train(config, tmp_path / "one", "cpu")
    rows = run.metrics().query("kind == 'train'").set_index("step")
    assert rows["skipped_steps"].tolist() == [1] * 5 + [2] * 7
    assert rows["loss"].isna().sum() == 2
    assert all(value.isfinite().all() for value in run.model().state_dict().values())
    train(config, tmp_path / "two", "cpu", stop_after_steps=7)
    assert same_weights(run, train(config, tmp_path / "two", "cpu"))


def test_a_training_without_such_steps_is_the_same_with_the_guard(run: Run, tmp_path: Path) -> None:
    assert same_weights(run, train(tiny(**{"optim.on_nonfinite": "skip"}), tmp_path, "cpu"))


def test_the_first_step_with_a_loss_that_is_not_finite_is_named_and_nothing_of_it_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    observe = FiniteCheck.observe

    def observe_with_a_fault(check: FiniteCheck, loss: Tensor, step: int) -> None:
        observe(check, loss * float("inf") if step == 2 else loss, step)

    monkeypatch.setattr(FiniteCheck, "observe", observe_with_a_fault)
    config = tiny(**{"evaluation.log_every": 100, "evaluation.checkpoint_every": 2})
    with pytest.raises(InputError, match=r"the loss at step 3 is inf \(before: .* at step 1\)"):
        train(config, tmp_path, "cpu")
    run = Run.open(tmp_path / config.id)
    assert run.provenance["step"] == 2
    assert run.metrics().query("kind == 'train'")["step"].max() <= 2
