"""Grids: every point once, whatever happens to the workers, on a journal file and on PostgreSQL."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from postgres import postgres_server
from test_training import TINY, tiny

from vqlab import Config, InputError, Run
from vqlab.studies import GRIDS, Grid, make_grid, named_grid, open_storage, train_command
from vqlab.studies.leases import TrialLeases, point_name

AXES = {"quantizer.decay": [0.9, 0.99], "quantizer.restart_every": [0, 3]}
SLOW = {**TINY, "data.train_limit": 1600, "optim.epochs": 1}


@pytest.fixture(params=["journal", "PostgreSQL"])
def storage(request: pytest.FixtureRequest) -> Iterator[str | None]:
    if request.param == "journal":
        yield None
        return
    with postgres_server() as url:
        yield url


def worker(root: Path, storage: str | None) -> subprocess.Popen[str]:
    words = ["grid", "mine", "--runs", str(root), *(["--storage", storage] if storage else [])]
    words += [f"--axis={axis}={values}" for axis, values in AXES.items()]
    words += [f"--set={key}={value}" for key, value in SLOW.items()]
    return subprocess.Popen([sys.executable, "-m", "vqlab", *words], stdout=subprocess.PIPE, text=True)


def grid() -> Grid:
    return make_grid("mine", AXES, **{"data.source": "photos", "seed": 0, **SLOW})


def trials(root: Path, storage: str | None) -> list[optuna.trial.FrozenTrial]:
    try:
        return optuna.load_study(study_name=grid().study_name, storage=open_storage(root, storage)).trials
    except KeyError:
        return []


def kill_in_mid_trial(
    root: Path, storage: str | None, workers: list[subprocess.Popen[str]]
) -> tuple[optuna.trial.FrozenTrial, subprocess.Popen[str]]:
    """Kill the first worker that is seen to log steps of a trial; the trial, and the other worker."""
    by_pid = {one.pid: one for one in workers}
    for _ in range(2000):
        for trial in trials(root, storage):
            pid = trial.user_attrs.get("worker", {}).get("pid")
            if trial.state.name != "RUNNING" or pid is None or not _logs_steps(root, trial):
                continue
            # Stopped first: so the trial that is looked at is the one that is killed.
            by_pid[pid].send_signal(signal.SIGSTOP)
            now = trials(root, storage)[trial.number]
            if now.state.name == "RUNNING":
                by_pid[pid].kill()
                by_pid[pid].wait()
                return now, next(one for one in workers if one.pid != pid)
            by_pid[pid].send_signal(signal.SIGCONT)
        time.sleep(0.02)
    raise AssertionError("no worker was seen to train")


def _logs_steps(root: Path, trial: optuna.trial.FrozenTrial) -> bool:
    if len(trial.params) < len(AXES):
        return False
    log = root / grid().base.replace(**trial.params).id / "metrics.jsonl"
    return log.is_file() and log.stat().st_size > 0


def test_two_workers_and_one_killed_in_mid_trial_leave_every_point_done_once(
    tmp_path: Path, storage: str | None
) -> None:
    killed, second = kill_in_mid_trial(tmp_path, storage, [worker(tmp_path, storage), worker(tmp_path, storage)])
    out, _ = second.communicate(timeout=300)
    assert second.returncode == 0, out

    done = trials(tmp_path, storage)
    assert done[killed.number].state.name == "FAIL"
    finished = Counter(point_name(trial.params) for trial in done if trial.state.name == "COMPLETE")
    assert finished == Counter(map(point_name, grid().points()))
    again = [trial for trial in done if trial.state.name == "COMPLETE" and trial.params == killed.params]
    assert again[0].number > killed.number

    table = grid().table(tmp_path, storage=storage)
    for row, config in zip(table.rows.to_dict("records"), grid().configs(), strict=True):
        run = Run.open(tmp_path / config.id)
        assert run.finished
        assert row["psnr"] == run.evaluation()["psnr"]
        steps = list(run.metrics().query("kind == 'train'")["step"])
        assert steps == sorted(set(steps)), "two workers trained one Run"


def small(**axes: list) -> Grid:
    return Grid("small", tiny(**{"optim.epochs": 1}), axes or {"quantizer.beta": [0.25, 1.0]})


def test_a_finished_grid_is_opened_and_a_lost_tail_of_it_is_trained(tmp_path: Path) -> None:
    said: list[str] = []
    table = small().run(tmp_path, "cpu", said.append)
    assert len(said) == 2
    small().run(tmp_path, "cpu", said.append)
    assert len(said) == 2
    assert table.rows["psnr"].notna().all()
    assert (table.rows["error"] == "").all()
    assert table.rows["psnr"].max() == Run.open(tmp_path / table.best().id).evaluation()["psnr"]


def leases_of(root: Path, name: str = "claims", **times: float) -> TrialLeases:
    storage = open_storage(root)
    study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True)
    return TrialLeases(study, storage, **times)


def test_a_point_that_two_workers_queued_is_worked_on_once(tmp_path: Path) -> None:
    one, other = leases_of(tmp_path), leases_of(tmp_path)
    points = {point_name({"x": 1}): {"x": 1}}
    one.enqueue(points)
    # What a second worker does that looked at the queue before the first one wrote to it.
    other.study.enqueue_trial({"x": 1}, user_attrs={"point": point_name({"x": 1})})
    taken = one.acquire()
    assert taken is not None
    assert taken.number == 0
    assert other.acquire() is None
    assert [trial.state.name for trial in one.trials()] == ["RUNNING", "FAIL"]


def test_a_worker_on_another_machine_is_lost_only_after_a_still_while(tmp_path: Path) -> None:
    one, other = leases_of(tmp_path), leases_of(tmp_path, expiry=0.3)
    one.enqueue({"x": {"x": 1}})
    trial = one.acquire()
    assert trial is not None
    trial.set_user_attr("worker", {"machine": "elsewhere", "pid": 1, "started": "1"})
    for beat in range(4):
        trial.set_user_attr("beat", beat)
        assert other.release_expired() == []
        time.sleep(0.15)
    time.sleep(0.3)
    assert [lost.number for lost in other.release_expired()] == [0]
    other.enqueue({"x": {"x": 1}})
    again = other.acquire()
    assert again is not None
    assert again.number == 1


def test_a_worker_whose_trial_was_given_away_is_told(tmp_path: Path) -> None:
    one = leases_of(tmp_path, heartbeat=0.05)
    one.enqueue({"x": {"x": 1}})
    trial = one.acquire()
    assert trial is not None
    with one.holding(trial) as held:
        leases_of(tmp_path)._fail(0)
        time.sleep(0.3)
        assert held.expired


def test_an_interrupted_worker_gives_its_point_back_at_once(tmp_path: Path) -> None:
    one, other = leases_of(tmp_path), leases_of(tmp_path)
    one.enqueue({"x": {"x": 1}})
    trial = one.acquire()
    assert trial is not None
    with pytest.raises(KeyboardInterrupt), one.holding(trial):
        raise KeyboardInterrupt
    other.enqueue({"x": {"x": 1}})
    assert other.acquire() is not None


def test_a_point_that_cannot_be_trained_says_why_and_is_tried_again_when_asked(tmp_path: Path) -> None:
    axes = {"data.source": ["photos", f"folder:{tmp_path}/pictures"]}
    table = small(**axes).run(tmp_path / "runs", "cpu")
    assert table.rows["error"][0] == ""
    assert "no such folder" in table.rows["error"][1]
    assert "error" in table.formatted().columns
    small(**axes).run(tmp_path / "runs", "cpu")
    states = [trial.state.name for trial in leases_of(tmp_path / "runs", small(**axes).study_name).trials()]
    assert states == ["COMPLETE", "FAIL"]
    small(**axes).run(tmp_path / "runs", "cpu", retry=True)
    states = [trial.state.name for trial in leases_of(tmp_path / "runs", small(**axes).study_name).trials()]
    assert states == ["COMPLETE", "FAIL", "FAIL"]


@pytest.mark.parametrize(
    ("axes", "told"),
    [
        ({"quantizer.codes": [1, 2]}, "quantizer.codes=1: unknown config key"),
        ({"codes.number": [1]}, "no such config section"),
        ({"quantizer.beta": []}, "at least one value"),
        ({"quantizer.beta": [1.0, 1.0]}, "none twice"),
        ({"quantizer.decay": [0.9, 1.5]}, "quantizer.decay=1.5"),
        ({"quantizer.decay": 0.9}, "as a list"),
    ],
)
def test_a_senseless_grid_is_refused(axes: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        make_grid("mine", axes)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://someone:secret@127.0.0.1:1/nothing",
        "sqlite:////nowhere/at/all.db",
        "nonsense",
        "oracle://someone:secret@host/name",
    ],
)
def test_a_storage_out_of_reach_is_one_line_without_its_password(url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="storage") as told:
        small().run(tmp_path, "cpu", storage=url)
    assert "secret" not in str(told.value)
    assert "\n" not in str(told.value)


def test_the_paper_grids_have_the_paper_points() -> None:
    assert len(named_grid("utilisation", "paper").points()) == 3 * 3 * 2
    assert len(named_grid("scaling", "paper").points()) == 3 * 3
    for name in GRIDS:
        assert list(named_grid(name, "quick").axes) == list(named_grid(name, "paper").axes)
    with pytest.raises(InputError, match="utilisation, scaling, initialisation"):
        named_grid("everything")


@pytest.mark.parametrize("profile", ["quick", "paper", "gpu"])
def test_the_command_of_a_config_names_that_config(profile: str) -> None:
    config = Config.profile(profile, **{"quantizer.beta": 0.5, "data.augment": False, "seed": 3})
    words = train_command(config).split()
    options = dict(zip(words[2::2], words[3::2], strict=True))
    changes = [word.partition("=") for flag, word in zip(words[2::2], words[3::2], strict=True) if flag == "--set"]
    assert sorted(key for key, _, _ in changes) == ["data.augment", "quantizer.beta"]
    assert options["--profile"] == profile


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["grid", "mine", "--axis", "quantizer.codes=[1,2]"], "quantizer.codes=1: unknown config key"),
        (["grid", "everything"], "utilisation, scaling, initialisation"),
        (["grid", "scaling", "--storage", "postgresql://someone:secret@127.0.0.1:1/none"], "out of reach"),
        (["tune", "--over", "quantizer.codes=[1]"], "quantizer.codes=1: unknown config key"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(words: list[str], told: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vqlab", *words, "--runs", str(tmp_path)], capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert told in done.stderr
    assert "secret" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_look_at_an_unfinished_grid_trains_nothing(tmp_path: Path) -> None:
    table = small().table(tmp_path)
    assert table.rows["error"].tolist() == ["not finished yet"] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["studies.journal"]
    with pytest.raises(InputError, match="no point is finished: not finished yet"):
        table.best()
