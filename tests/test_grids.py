"""Grids: every point is trained once, also if workers are killed, on a journal file and on PostgreSQL."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import optuna
import pandas as pd
import pytest
from command_processes import Command, settings, vqlab
from postgres import postgres_server
from test_training import TINY, tiny

from vqlab import Config, InputError, Run
from vqlab.studies import GRIDS, Grid, GridTable, make_grid, named_grid, open_storage, train_command
from vqlab.studies.leases import TrialLeases, point_key

AXES = {"quantizer.decay": [0.9, 0.99], "quantizer.restart_every": [0, 3]}
SLOW = {**TINY, "data.train_limit": 1600, "optim.epochs": 1}


@pytest.fixture(params=[pytest.param("journal", marks=pytest.mark.slow), "PostgreSQL"])  # half a minute each
def storage(request: pytest.FixtureRequest) -> Iterator[str | None]:
    if request.param == "journal":
        yield None
        return
    with postgres_server() as url:
        yield url


def start_worker(root: Path, storage: str | None, output: Path) -> Command:
    words = ["grid", "example", "--runs", str(root), *(["--storage", storage] if storage else [])]
    words += [f"--axis={axis}={values}" for axis, values in AXES.items()]
    return Command([*words, *settings(SLOW)], output)


def grid() -> Grid:
    return make_grid("example", AXES, **{"data.source": "photos", "seed": 0, **SLOW})


def trials(root: Path, storage: str | None) -> list[optuna.trial.FrozenTrial]:
    try:
        return optuna.load_study(study_name=grid().study_name, storage=open_storage(root, storage)).trials
    except KeyError:
        return []


def kill_during_trial(
    root: Path, storage: str | None, workers: list[Command]
) -> tuple[optuna.trial.FrozenTrial, Command]:
    """Kill the first worker that has logged steps of a trial; return the trial and the other worker."""
    by_pid = {worker.process.pid: worker for worker in workers}
    for _ in range(2000):
        for trial in trials(root, storage):
            pid = trial.user_attrs.get("worker", {}).get("pid")
            if trial.state.name != "RUNNING" or pid is None or not _has_logged_steps(root, trial):
                continue
            # Stopped first, so that the trial does not change between this check and the kill.
            by_pid[pid].send(signal.SIGSTOP)
            current = trials(root, storage)[trial.number]
            if current.state.name == "RUNNING":
                by_pid[pid].send(signal.SIGKILL)
                by_pid[pid].wait()
                return current, next(worker for worker in workers if worker.process.pid != pid)
            by_pid[pid].send(signal.SIGCONT)
        time.sleep(0.02)
    raise AssertionError("no worker logged a step")


def _has_logged_steps(root: Path, trial: optuna.trial.FrozenTrial) -> bool:
    if len(trial.params) < len(AXES):
        return False
    log = root / grid().base.replace(**trial.params).id / "metrics.jsonl"
    return log.is_file() and log.stat().st_size > 0


def test_every_point_is_trained_once_although_one_of_two_workers_is_killed(tmp_path: Path, storage: str | None) -> None:
    killed, second = kill_during_trial(
        tmp_path, storage, [start_worker(tmp_path, storage, tmp_path / f"output{number}") for number in range(2)]
    )
    assert second.wait(300) == 0, second.text()

    ended = trials(tmp_path, storage)
    assert ended[killed.number].state.name == "FAIL"
    finished = Counter(point_key(trial.params) for trial in ended if trial.state.name == "COMPLETE")
    assert finished == Counter(map(point_key, grid().points()))
    repeated = [trial for trial in ended if trial.state.name == "COMPLETE" and trial.params == killed.params]
    assert repeated[0].number > killed.number

    table = grid().table(tmp_path, storage=storage)
    for row, config in zip(table.rows.to_dict("records"), grid().configs(), strict=True):
        run = Run.open(tmp_path / config.id)
        assert run.finished
        assert row["psnr"] == run.last_epoch_metrics()["psnr"]
        assert run.last_epoch_metrics()["part"] == "validation"
        steps = list(run.metrics().query("kind == 'train'")["step"])
        assert steps == sorted(set(steps)), "two workers trained one Run"


def small(**axes: list) -> Grid:
    return Grid("small", tiny(**{"optim.epochs": 1}), axes or {"quantizer.beta": [0.25, 1.0]})


def test_a_finished_grid_is_opened_and_not_trained_again(tmp_path: Path) -> None:
    lines: list[str] = []
    table = small().run(tmp_path, "cpu", lines.append)
    assert len(lines) == 2
    small().run(tmp_path, "cpu", lines.append)
    assert len(lines) == 2
    assert table.rows["psnr"].notna().all()
    assert (table.rows["error"] == "").all()
    assert table.rows["psnr"].max() == Run.open(tmp_path / table.best_config().id).evaluation()["psnr"]


def test_no_point_is_pruned_although_it_is_worse_than_all_others(tmp_path: Path) -> None:
    rates = [3e-3, 2.9e-3, 2.8e-3, 2.7e-3, 2.6e-3, 1e-7]
    axes = {"optim.learning_rate": rates}
    rows = make_grid("rates", axes, **{"data.source": "photos", **TINY, "optim.epochs": 2}).run(tmp_path).rows
    assert (rows["error"] == "").all()
    assert rows["psnr"].notna().all()


def test_a_table_is_one_line_as_text_and_an_escaped_table_as_html(tmp_path: Path) -> None:
    grid = small()
    table = grid.table(tmp_path)
    assert repr(table) == "GridTable(small: 0 of 2 points finished)"
    assert table._repr_html_().count("not finished yet") == 2
    rows = table.rows.assign(psnr=[20.0, 21.5], error=["<b>", ""])
    measured = GridTable(grid, rows, tmp_path)
    assert repr(measured) == "GridTable(small: 1 of 2 points finished, best PSNR 21.50 dB at beta=1.0)"
    page = measured._repr_html_()
    assert "Grid small: beta" in page
    assert "1 of 2 points" in page
    assert "<b>" not in page
    assert "&lt;b&gt;" in page


def test_a_grid_of_a_model_without_codes_has_the_reason(tmp_path: Path) -> None:
    grid = Grid("vae", tiny(**{"optim.epochs": 1, "model.kind": "vae"}), {"optim.learning_rate": [1e-3]})
    assert "is a vae, without a PSNR or a perplexity" in grid.run(tmp_path, "cpu").rows["error"][0]


def open_leases(root: Path, name: str = "leases", **times: float) -> TrialLeases:
    storage = open_storage(root)
    study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True)
    return TrialLeases(study, storage, **times)


def test_a_point_that_two_workers_queued_is_trained_once(tmp_path: Path) -> None:
    one, other = open_leases(tmp_path), open_leases(tmp_path)
    points = {point_key({"x": 1}): {"x": 1}}
    one.enqueue(points)
    # As a second worker does that read the queue before the first one wrote to it.
    other.study.enqueue_trial({"x": 1}, user_attrs={"point": point_key({"x": 1})})
    trial = one.acquire()
    assert trial is not None
    assert trial.number == 0
    assert other.acquire() is None
    assert [trial.state.name for trial in one.trials()] == ["RUNNING", "FAIL"]


def test_a_lease_on_another_machine_expires_only_without_heartbeats(tmp_path: Path) -> None:
    one, other = open_leases(tmp_path), open_leases(tmp_path, expiry=0.3)
    one.enqueue({"x": {"x": 1}})
    trial = one.acquire()
    assert trial is not None
    trial.set_user_attr("worker", {"machine": "elsewhere", "pid": 1, "started": "1"})
    for count in range(4):
        trial.set_user_attr("beat", count)
        assert other.release_expired() == []
        time.sleep(0.15)
    time.sleep(0.3)
    assert [expired.number for expired in other.release_expired()] == [0]
    other.enqueue({"x": {"x": 1}})
    second = other.acquire()
    assert second is not None
    assert second.number == 1


def test_the_lease_of_a_trial_that_another_worker_failed_is_expired(tmp_path: Path) -> None:
    one = open_leases(tmp_path, heartbeat=0.05)
    one.enqueue({"x": {"x": 1}})
    trial = one.acquire()
    assert trial is not None
    with one.hold(trial) as lease:
        open_leases(tmp_path)._fail(0)
        time.sleep(0.3)
        assert lease.expired


def test_the_point_of_an_interrupted_worker_is_queued_at_once(tmp_path: Path) -> None:
    one, other = open_leases(tmp_path), open_leases(tmp_path)
    one.enqueue({"x": {"x": 1}})
    trial = one.acquire()
    assert trial is not None
    with pytest.raises(KeyboardInterrupt), one.hold(trial):
        raise KeyboardInterrupt
    other.enqueue({"x": {"x": 1}})
    assert other.acquire() is not None


def test_a_failed_point_has_its_reason_and_is_trained_again_with_retry(tmp_path: Path) -> None:
    axes = {"data.source": ["photos", f"folder:{tmp_path}/pictures"]}
    table = small(**axes).run(tmp_path / "runs", "cpu")
    assert table.rows["error"][0] == ""
    assert "no such folder" in table.rows["error"][1]
    assert "error" in table.formatted().columns
    small(**axes).run(tmp_path / "runs", "cpu")
    states = [trial.state.name for trial in open_leases(tmp_path / "runs", small(**axes).study_name).trials()]
    assert states == ["COMPLETE", "FAIL"]
    small(**axes).run(tmp_path / "runs", "cpu", retry=True)
    states = [trial.state.name for trial in open_leases(tmp_path / "runs", small(**axes).study_name).trials()]
    assert states == ["COMPLETE", "FAIL", "FAIL"]


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"quantizer.codes": [1, 2]}, "quantizer.codes: unknown config key"),
        ({"codes.number": [1]}, "codes.number: unknown config key"),
        ({"quantizer.beta": []}, "needs at least one value"),
        ({"quantizer.beta": [1.0, 1.0]}, "without repetition"),
        ({"quantizer.decay": [0.9, 1.5]}, "quantizer.decay=1.5"),
        ({"quantizer.decay": 0.9}, "as a list"),
    ],
)
def test_an_invalid_grid_is_refused(axes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_grid("example", axes)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://someone:secret@127.0.0.1:1/nothing",
        "sqlite:////nowhere/at/all.db",
        "nonsense",
        "oracle://someone:secret@host/name",
    ],
)
def test_the_error_of_an_unreachable_storage_is_one_line_without_the_password(url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="storage") as error:
        small().run(tmp_path, "cpu", storage=url)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_the_named_grids_have_the_points_of_the_paper() -> None:
    assert len(named_grid("utilisation", "paper").points()) == 3 * 3 * 2
    assert len(named_grid("scaling", "paper").points()) == 3 * 3
    for name in GRIDS:
        assert list(named_grid(name, "quick").axes) == list(named_grid(name, "paper").axes)
    with pytest.raises(InputError, match="utilisation, scaling, initialisation"):
        named_grid("everything")


@pytest.mark.parametrize("profile", ["quick", "paper", "gpu"])
def test_the_train_command_has_only_the_changes_of_the_config(profile: str) -> None:
    config = Config.profile(profile, **{"quantizer.beta": 0.5, "data.augment": False, "seed": 3})
    words = train_command(config).split()
    options = dict(zip(words[2::2], words[3::2], strict=True))
    changes = [word.partition("=") for flag, word in zip(words[2::2], words[3::2], strict=True) if flag == "--set"]
    assert sorted(key for key, _, _ in changes) == ["data.augment", "quantizer.beta"]
    assert options["--profile"] == profile


@pytest.mark.parametrize(
    ("words", "message", "status"),
    [
        (["grid", "example", "--axis", "quantizer.codes=[1,2]"], "quantizer.codes: unknown config key", 2),
        (["grid", "everything"], "utilisation, scaling, initialisation", 2),
        (["grid", "scaling", "--storage", "postgresql://someone:secret@127.0.0.1:1/none"], "cannot be reached", 1),
        (["tune", "--over", "quantizer.codes=[1]"], "quantizer.codes: unknown config key", 2),
    ],
)
def test_an_error_is_one_line_with_its_status(words: list[str], message: str, status: int, tmp_path: Path) -> None:
    process = vqlab(*words, "--runs", str(tmp_path))
    assert process.returncode == status
    assert message in process.stderr
    assert "secret" not in process.stderr
    assert len(process.stderr.strip().splitlines()) == 1


def test_the_table_of_an_unfinished_grid_trains_nothing(tmp_path: Path) -> None:
    table = small().table(tmp_path)
    assert table.rows["error"].tolist() == ["not finished yet"] * 2
    assert [path.name for path in tmp_path.glob("[!.]*")] == ["studies.journal"]
    with pytest.raises(InputError, match=r"no point is finished \(not finished yet\)"):
        table.best_config()


def test_workers_without_a_common_folder_share_a_grid_by_its_storage(tmp_path: Path) -> None:
    with postgres_server() as url:
        roots = [tmp_path / "one", tmp_path / "two"]
        workers = [start_worker(root, url, tmp_path / f"{root.name}.log") for root in roots]
        assert [worker.wait() for worker in workers] == [0, 0], [worker.text() for worker in workers]
        tables = [grid().table(root, storage=url).rows for root in roots]
    trained = [{path.parent.name for path in root.glob("*/model.safetensors")} for root in roots]
    assert trained[0] | trained[1] == set(tables[0]["run"])
    assert not trained[0] & trained[1]
    pd.testing.assert_frame_equal(*tables)
    assert tables[0]["psnr"].notna().all()
    best = [worker.text().strip().splitlines()[-1] for worker in workers]
    assert best[0] == best[1]
    assert "best PSNR" in best[0]
