"""Tuning: the requested number of trials, poor ones pruned, trials of killed workers repeated."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from command_processes import Command, settings
from test_training import TINY, tiny

from vqlab import Config, InputError, Run
from vqlab.data.validation import with_validation
from vqlab.plots import epochs_explorer, history_explorer, importance_explorer, settings_explorer
from vqlab.studies import DEFAULT_SPACE, Range, Tuning, named_tuning, open_storage, parse_space

TEST_SPACE = {"quantizer.beta": Range(0.1, 2.0, log=True), "optim.learning_rate": (1e-6, 3e-3)}


def tuning(trials: int = 8) -> Tuning:
    return Tuning("example", tiny(**{"optim.epochs": 3}), TEST_SPACE, trials)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def study(root: Path) -> optuna.Study:
    return tuning().run(root, "cpu")


def test_it_runs_the_requested_trials_and_the_best_one_is_a_run(root: Path, study: optuna.Study) -> None:
    assert [trial.state.name in ("COMPLETE", "PRUNED") for trial in study.trials] == [True] * 8
    best = Run.open(root / tuning().best_config(study).id)
    assert best.evaluation()["psnr"] == study.best_value == max(t.value for t in study.trials if t.value is not None)
    assert best.config.optim.learning_rate == 3e-3


def test_poor_trials_are_pruned_and_their_runs_stay_unfinished(root: Path, study: optuna.Study) -> None:
    pruned = [trial for trial in study.trials if trial.state.name == "PRUNED"]
    assert pruned
    for trial in pruned:
        assert trial.params["optim.learning_rate"] == 1e-6
        assert max(trial.intermediate_values) < 2
        assert not Run.open(root / tuning().base.replace(**trial.params).id).finished


def test_a_resumed_tuning_has_the_trials_of_an_uninterrupted_one(
    root: Path, study: optuna.Study, tmp_path: Path
) -> None:
    tuning(3).run(root / "resumed", "cpu")
    resumed = tuning().run(root / "resumed", "cpu")
    assert [trial.params for trial in resumed.trials[:3]] == [trial.params for trial in study.trials[:3]]
    assert len(resumed.trials) == 8
    assert len(tuning().run(root, "cpu").trials) == 8


def test_a_trial_of_a_killed_worker_is_repeated_with_its_params(tmp_path: Path) -> None:
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    from vqlab.studies.leases import _worker_identity

    started = optuna.create_study(
        study_name=tuning(2).study_name, storage=open_storage(tmp_path), direction="maximize"
    ).ask()
    started.suggest_float("quantizer.beta", 0.1, 2.0, log=True)
    started.suggest_categorical("optim.learning_rate", (1e-6, 3e-3))
    started.set_user_attr("worker", {**_worker_identity(), "pid": killed.pid})
    trials = tuning(2).run(tmp_path, "cpu").trials
    assert [trial.state.name for trial in trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert started.params in [trial.params for trial in trials[1:]]


def test_two_workers_together_run_the_requested_trials(tmp_path: Path) -> None:
    words = ["tune", "--trials", "5", "--runs", str(tmp_path), "--over", "quantizer.beta=[0.25,0.5,1.0]"]
    workers = [Command([*words, *settings(TINY)], tmp_path / f"output{number}") for number in range(2)]
    assert [worker.wait(300) for worker in workers] == [0, 0]
    assert all("vqlab train --profile quick" in worker.text() for worker in workers)
    (summary,) = optuna.get_all_study_summaries(open_storage(tmp_path))
    trials = optuna.load_study(study_name=summary.study_name, storage=open_storage(tmp_path)).trials
    assert sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in trials) == 5


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"quantizer.codes": [1]}, "unknown config key"),
        ({"quantizer.beta": 3}, "write choices as"),
        ({"quantizer.beta": {"low": 2, "high": 1}}, "low must be below high"),
        ({"quantizer.beta": {"low": 0, "high": 1, "log": True}}, "above 0"),
        ({"quantizer.decay": {"low": 0.5, "high": 1.5}}, "quantizer.decay=1.5"),
    ],
)
def test_an_invalid_space_is_refused(space: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Tuning("example", tiny(), parse_space(space))


def test_the_named_tuning_has_the_scale_of_the_profile() -> None:
    quick = named_tuning("quick", seed=3)
    assert (quick.trials, quick.base.seed, quick.base.data.train_limit, quick.base.optim.epochs) == (6, 3, 480, 2)
    assert quick.space.keys() == DEFAULT_SPACE.keys()
    rates = quick.space["optim.learning_rate"]
    assert rates.low <= quick.base.optim.learning_rate <= rates.high
    assert named_tuning("paper").base == with_validation(Config.profile("paper"))
    assert named_tuning("paper").space == DEFAULT_SPACE


def test_optunas_plots_have_titles_and_units(study: optuna.Study) -> None:
    history, epochs = history_explorer(study), epochs_explorer(study)
    assert history.layout.title.text == "PSNR of each trial, and the best so far"
    assert epochs.layout.xaxis.title.text == "epoch (the first is 0)"
    assert {figure.layout.yaxis.title.text for figure in (history, epochs)} == {"PSNR on the held-out images (dB)"}
    shown = [trial.number for trial in study.trials if trial.state.name == "COMPLETE"]
    assert list(history.data[0].x) == shown
    settings = settings_explorer(study)
    assert settings.layout.title.text == "Settings and PSNR of each trial, one line a trial"
    assert all(field in str(settings) for field in TEST_SPACE)
    importances = optuna.importance.get_param_importances(study)
    bars = importance_explorer(study).data[0]
    assert dict(zip(bars.y, bars.x, strict=True)) == pytest.approx(importances)


def test_without_a_space_the_default_fields_are_tuned() -> None:
    assert parse_space({}) == DEFAULT_SPACE
    with pytest.raises(InputError, match="trials=0"):
        Tuning("example", tiny(), DEFAULT_SPACE, 0)
