"""Ctrl-C and SIGTERM: a checkpoint at the next step, a line that says how to go on, and the same weights then."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_processes import MAIN, TINY, Command, settings
from test_report import _write as write_notebook
from test_training import same_weights

from vqlab import Config, Run, train
from vqlab.training.logs import read_rows
from vqlab.training.stop_signals import stop_signals

CONFIG = Config.profile("quick", **{**TINY, "optim.epochs": 8, "evaluation.checkpoint_every": 1000})
LONG = {**TINY, "optim.epochs": 8, "evaluation.checkpoint_every": 1000}
PRIOR = {**TINY, "prior.kind": "transformer", "prior.width": 16, "prior.layers": 1, "prior.epochs": 300,
         "prior.batch_size": 8, "evaluation.checkpoint_every": 10_000}  # fmt: skip
SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 75}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("uninterrupted")
    train(CONFIG, root, "cpu")
    return root


def log_rows(folder: Path, kind: str) -> list[int]:
    return [row["step"] for row in read_rows(folder / "metrics.jsonl") if row["kind"] == kind]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_saves_at_the_next_step_and_says_how_to_go_on(expected: Path, tmp_path: Path, number: int) -> None:
    words = ["train", "--runs", str(tmp_path), "--device", "cpu", *settings(LONG)]
    command, folder = Command(words, tmp_path / "output"), tmp_path / CONFIG.id
    command.wait_for(lambda: len(log_rows(folder, "train")) > 20)
    before = len(log_rows(folder, "train"))
    command.send(number)
    assert command.wait() == SIGNALS[number]
    run = Run.open(folder)
    assert not run.finished
    steps = log_rows(folder, "train")
    assert run.provenance["step"] == steps[-1] == len(steps)
    assert before <= len(steps) < before + 8
    assert "Traceback" not in command.text()
    assert "the same command" in command.text().strip().splitlines()[-1]
    again = Command(words, tmp_path / "output")
    assert again.wait() == 0
    assert same_weights(run, Run.open(expected / CONFIG.id))
    assert log_rows(folder, "train") == log_rows(expected / CONFIG.id, "train")


def test_a_time_limit_ends_with_a_checkpoint_and_the_status_that_asks_for_the_same_command(tmp_path: Path) -> None:
    endless = settings({**LONG, "optim.epochs": 3000})
    command = Command(["train", "--runs", str(tmp_path), "--max-hours", "0.003", *endless], tmp_path / "output")
    start = time.monotonic()
    assert command.wait() == 75
    assert 10 < time.monotonic() - start < 60
    (log,) = tmp_path.glob("*/metrics.jsonl")
    assert Run.open(log.parent).provenance["step"] == log_rows(log.parent, "train")[-1]
    assert "the same command" in command.text().strip().splitlines()[-1]


def test_a_signal_during_a_prior_saves_the_prior(tmp_path: Path) -> None:
    config = Config.profile("quick", **PRIOR)
    words = ["train", "--runs", str(tmp_path), "--device", "cpu", *settings(PRIOR)]
    command, folder = Command(words, tmp_path / "output"), tmp_path / config.id
    command.wait_for(lambda: len(log_rows(folder, "train")) > 5)
    command.send(signal.SIGINT)
    assert command.wait() == 130
    assert Run.open(folder).provenance["step"] == log_rows(folder, "train")[-1]
    assert Run.open(folder).codec().finished


@pytest.mark.parametrize(
    "words",
    [
        ["study", "transports", "--seeds", "2"],
        ["grid", "own", "--axis", "quantizer.beta=[0.25,0.5]"],
        ["tune", "--trials", "2", "--over", "quantizer.beta=[0.25,0.5]"],
    ],
    ids=lambda words: words[0],
)
def test_a_signal_ends_studies_grids_and_tunings_with_a_checkpoint(tmp_path: Path, words: list[str]) -> None:
    command = Command(
        [*words, "--runs", str(tmp_path), "--device", "cpu", *settings({**LONG, "optim.epochs": 300})],
        tmp_path / "output",
    )
    command.wait_for(lambda: any(len(log_rows(log.parent, "train")) > 5 for log in tmp_path.glob("*/metrics.jsonl")))
    command.send(signal.SIGTERM)
    assert command.wait() == 143
    (log,) = tmp_path.glob("*/metrics.jsonl")
    assert Run.open(log.parent).provenance["step"] == log_rows(log.parent, "train")[-1]
    assert "Traceback" not in command.text()
    if words[0] != "study":
        # The point is free at once, not only when a worker notices that this one has ended.
        journal = (tmp_path / "studies.journal").read_text()
        assert '"state":3' in journal


def test_a_second_signal_ends_a_training_at_once(tmp_path: Path) -> None:
    """The first signal arrives inside a step that never ends."""
    code = (
        "import time; from vqlab.training.recipes.vqvae import VQVAERecipe as R;"
        "R.step = lambda *_, **__: (print('step', flush=True), time.sleep(100));" + MAIN
    )
    command = Command(["train", "--runs", str(tmp_path)], tmp_path / "output", code=code)
    command.wait_for(lambda: command.text().endswith("step\n"))
    command.send(signal.SIGINT)
    command.wait_for(lambda: "a second signal" in command.text())
    assert "step\n\nstopping with a checkpoint" in command.text()
    command.send(signal.SIGINT)
    assert command.wait(30) == 130
    assert "Traceback" not in command.text()


@pytest.fixture
def handlers() -> Iterator[dict[int, object]]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield {**before}
    for number, handler in before.items():
        signal.signal(number, handler)


def test_handlers_are_restored_and_ignored_signals_stay_ignored(handlers: dict[int, object]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with stop_signals() as received:
        assert signal.getsignal(signal.SIGINT) != handlers[signal.SIGINT]
        signal.raise_signal(signal.SIGTERM)
    assert received.number is None
    assert signal.getsignal(signal.SIGINT) == handlers[signal.SIGINT]
    with pytest.raises(KeyboardInterrupt), stop_signals():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == handlers[signal.SIGINT]


LIVE = """
import sys, time
from vqlab.config import Config
from vqlab.widgets import LiveTraining
training = LiveTraining(Config.parse({config!r}), sys.argv[1], "cpu")
training.start()
print("started", flush=True)
while True:
    time.sleep(0.05)
"""


@pytest.mark.parametrize("headless", [True, False])
def test_a_signal_pauses_a_live_training(tmp_path: Path, headless: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook the training has a thread of its own; its process is told to end."""
    monkeypatch.setenv("VQLAB_HEADLESS", str(int(headless)))
    config, folder = CONFIG.replace(**{"optim.epochs": 3000}), tmp_path
    code, log = LIVE.format(config=config.model_dump(mode="json")), folder / config.id
    command = Command([str(folder)], folder / "output", code=code)
    command.wait_for(lambda: len(log_rows(log, "train")) > 5)
    command.send(signal.SIGTERM)
    assert command.wait(30) == 143
    assert Run.open(log).provenance["step"] == log_rows(log, "train")[-1]


NOTEBOOK = """
from vqlab import Config, train
train(Config.parse({config!r}), {root!r}, "cpu")
"""
REPORT = """
import sys
from vqlab import cli
from vqlab.report import run_notebooks
cli.app = lambda *_, **__: run_notebooks({"seed": 7}, Path(sys.argv[1], "report"), print, folder=Path(sys.argv[1]))
cli.main()
"""


def test_a_signal_ends_a_report_after_a_checkpoint_of_its_notebook(tmp_path: Path) -> None:
    config = CONFIG.replace(**{"optim.epochs": 3000})
    write_notebook(tmp_path, "00_trains", NOTEBOOK.format(config=config.model_dump(mode="json"), root=str(tmp_path)))
    command = [sys.executable, "-c", f"from pathlib import Path{REPORT}", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        log = tmp_path / config.id
        while len(log_rows(log, "train")) <= 5:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert Run.open(log).provenance["step"] == log_rows(log, "train")[-1], errors
