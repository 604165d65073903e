"""Several processes that train one Run: equal to one process, and ended, stopped and resumed together."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from command_processes import TINY, Command, run_program, run_ranks, settings, vqlab
from torch.multiprocessing import ProcessRaisedException

import vqlab.training.evaluation as evaluation
import vqlab.training.loop as loop
import vqlab.training.sampling as sampling
from vqlab import Config, InputError, Run, train
from vqlab.files import read_json
from vqlab.training.files import read_tensors
from vqlab.training.logs import read_rows
from vqlab.training.workers import RENDEZVOUS, join_workers

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="this torch has no gloo")

# 56 steps with restarts, in each of which the ranks have four images.
STEPS = {**TINY, "optim.epochs": 7, "data.validation": 9, "evaluation.checkpoint_every": 20}
KINDS: dict[str, dict[str, Any]] = {
    "EMA": {},
    "gradient": {"quantizer.update": "gradient"},
    "residual": {"quantizer.family": "residual", "quantizer.levels": 2},
    "lfq": {
        "quantizer.family": "lfq",
        "quantizer.code_dim": None,
        "quantizer.num_codes": 64,
        "optim.optimizer": "adam",  # Muon with LFQ magnifies even rounding errors of float64
        "optim.learning_rate": 5e-4,
    },
    "phases": {"quantizer.start_after": 4, "optim.decoder_phase": 0.3, "optim.clip_norm": 1.0, "optim.ema": 0.9},
    "parts": {"optim.accumulate": 2, "optim.on_nonfinite": "skip"},
    "vae": {"model.kind": "vae"},
    "gan": {"model.kind": "gan", "gan.width": 8, "optim.optimizer": "adam"},
    "adversarial": {"loss.adversarial": 0.1, "loss.discriminator_width": 8, "loss.adversarial_start": 0.2},
}


LONG_CHANGES = {**STEPS, "optim.epochs": 40, "evaluation.checkpoint_every": 4}
LONG = Config.profile("quick", **LONG_CHANGES)


def config(**changes: object) -> Config:
    return Config.profile("quick", **{**STEPS, **changes})


def train_in_float64(patch: pytest.MonkeyPatch) -> list[Any]:
    """Let models be trained in float64: in float32, Adam and near codes magnify rounding errors by chance.

    Returns:
        The recipes that were built, in order; empty at first.
    """
    recipes: list[Any] = []
    batches = sys.modules["vqlab.data.batches"]  # the package's attribute of this name is a function
    build, to_float = loop.build_recipe, batches.to_float

    def build_recipe(*arguments: Any, **options: Any) -> Any:
        recipes.append(build(*arguments, **options))
        for module in recipes[-1].modules.values():
            module.double()
            for part in module.modules():
                if isinstance(part, torch.nn.Linear):  # the first layer of a GAN, whose noise is float32
                    part.register_forward_pre_hook(lambda _, inputs: tuple(value.double() for value in inputs))
        return recipes[-1]

    patch.setattr(loop, "build_recipe", build_recipe)
    patch.setattr(batches, "to_float", lambda pixels, device: to_float(pixels, device).double())
    return recipes


def train_as_rank(rank: int, folder: str, changes: dict[str, Any], double: bool = True) -> None:
    """Train as one of two processes, and write the state of this one if it trains in float64."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), RENDEZVOUS: f"{folder}/rendezvous"}
    recipes = train_in_float64(pytest.MonkeyPatch()) if double else []
    train(config(**changes), f"{folder}/two", "cpu")
    if recipes:
        torch.save(recipes[-1].model.state_dict(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_train_the_run_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    train_in_float64(monkeypatch)
    run_ranks(train_as_rank, str(tmp_path), KINDS[kind])
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    one = train(config(**KINDS[kind]), tmp_path / "one", "cpu")
    two = Run.open(tmp_path / "two" / one.config.id)
    stored, _ = read_tensors(one.folder / "checkpoint.safetensors")
    for name, value in ranks[0].items():
        assert torch.equal(value, ranks[1][name]), name
        torch.testing.assert_close(
            value, stored[f"model.{name}"], rtol=1e-6, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert_same_rows(two, one)
    if kind not in ("vae", "gan"):
        usage = [np.load(run.folder / "codebook.npz")["usage"] for run in (one, two)]
        assert np.array_equal(*usage)
    assert two.provenance["processes"] == 2
    assert "processes" not in one.provenance


def assert_same_rows(run: Run, expected: Run, tolerance: float = 1e-5) -> None:
    """The rows of both logs, but for times; gradient records and scores of a discriminator are float32."""
    for name in ("metrics.jsonl", "angles.jsonl"):
        rows, others = (read_rows(folder / name) for folder in (run.folder, expected.folder))
        assert len(rows) == len(others)
        for row, other in zip(rows, others, strict=True):
            assert row.keys() == other.keys()
            for key in row.keys() - {"images_per_second"}:
                equal = row[key] == other[key]
                if isinstance(row[key], float):
                    equal = row[key] == pytest.approx(other[key], rel=tolerance, abs=0.1 * tolerance)
                elif isinstance(row[key], list):  # of counts: a value may be on the other side of an edge
                    equal = sum(row[key]) == sum(other[key]) and max(np.abs(np.subtract(row[key], other[key]))) <= 1
                assert equal, (name, row["step"], key, row[key], other[key])


def test_a_prior_trains_in_two_processes(tmp_path: Path) -> None:
    changes = {"prior.kind": "transformer", "prior.width": 16, "prior.layers": 1, "prior.epochs": 2}
    changes |= {"prior.batch_size": 8, "optim.epochs": 1}
    run_ranks(train_as_rank, str(tmp_path), changes, False)  # codes are read from a finished Run, in float32
    one = train(config(**changes), tmp_path / "one", "cpu")
    assert_same_rows(Run.open(tmp_path / "two" / one.config.id), one, tolerance=1e-4)


def evaluate_as_rank(rank: int, folder: str) -> None:
    """Evaluate a Run as one of two processes, with batches so small that each has several."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), RENDEZVOUS: f"{folder}/rendezvous"}
    evaluation.BATCH_SIZE = sampling.BATCH_SIZE = 5
    (run,) = (Run.open(path) for path in Path(folder, "two").iterdir())
    columns = run.evaluation(workers=join_workers("cpu"))
    Path(folder, f"{rank}.json").write_text(json.dumps(columns))
    dist.destroy_process_group()


def test_two_processes_measure_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "BATCH_SIZE", 5)
    monkeypatch.setattr(sampling, "BATCH_SIZE", 5)
    changes = {"model.kind": "vae", "data.test_limit": 23, "evaluation.samples": 18, "optim.epochs": 1}
    one = train(config(**changes), tmp_path / "one", "cpu")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    expected = one.evaluation("cpu")
    run_ranks(evaluate_as_rank, str(tmp_path))
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    stored = read_json(tmp_path / "two" / one.config.id / "evaluation.json")
    assert ranks[0] == ranks[1] == stored
    assert stored.keys() == expected.keys()
    for name, value in expected.items():
        assert stored[name] == (pytest.approx(value, rel=1e-4) if isinstance(value, float) else value), name
    assert expected["sample_fd_classifier"] > 0


def test_processes_out_of_range_and_with_an_observer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="processes=2: the observer"):
        train(config(), tmp_path, "cpu", processes=2, observer=print)
    with pytest.raises(InputError, match="processes=65: must be 2…64"):
        train(config(), tmp_path, "cpu", processes=65)


def test_a_batch_smaller_than_the_processes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProcessRaisedException, match=r"InputError: .*the last batch of 65 images has 1"):
        run_ranks(train_as_rank, str(tmp_path), {"data.train_limit": 65, "data.validation": 0})


def started(tmp_path: Path, *words: str) -> tuple[Command, Path]:
    """A training of two processes after its first steps, and the folder of its Run."""
    runs = tmp_path / "runs"
    options = ["--runs", str(runs), "--device", "cpu", "--processes", "2", *words]
    command = Command(["train", *options, *settings(LONG_CHANGES)], tmp_path / "output")
    folder = runs / LONG.id
    command.wait_for(lambda: (folder / "checkpoint.safetensors").exists())
    return command, folder


def rank_processes(command: Command) -> list[int]:
    """Process ids of the ranks, in their order."""
    children = Path(f"/proc/{command.process.pid}/task/{command.process.pid}/children").read_text().split()
    ranks = {}
    for pid in map(int, children):
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        ranks |= {int(entry[5:]): pid for entry in environment if entry.startswith(b"RANK=")}
    return [ranks[rank] for rank in sorted(ranks)]


def test_a_signal_stops_all_processes_with_a_checkpoint_and_one_goes_on(tmp_path: Path) -> None:
    command, folder = started(tmp_path)
    ranks = rank_processes(command)
    command.send(signal.SIGTERM)
    assert command.wait(60) == 143, command.text()
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)
    assert "the same command goes on from there" in command.text()
    interrupted = Run.open(folder)
    step = interrupted.provenance["step"]
    assert 0 < step < 280
    resumed = train(interrupted.config, folder.parent, "cpu", stop_after_steps=20)
    assert resumed.provenance["step"] == step + 20
    assert [row["step"] for row in read_rows(folder / "metrics.jsonl") if row["kind"] == "train"] == [
        *range(1, step + 21)
    ]


def checkpoint_step(folder: Path) -> int:
    """A process may be killed before it writes the provenance of its first checkpoint."""
    return int(read_tensors(folder / "checkpoint.safetensors")[1]["step"])


def kill_a_rank(tmp_path: Path, rank: int) -> None:
    """Kill one process; the other and the command end soon with a message, and two processes go on to the end."""
    command, folder = started(tmp_path)
    ranks = rank_processes(command)
    assert len(ranks) == 2
    os.kill(ranks[rank], signal.SIGKILL)
    start = time.monotonic()
    assert command.wait(60) == 1, command.text()
    assert time.monotonic() - start < 30
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)
    assert f"process {rank} of 2 was ended by SIGKILL" in command.text()
    assert checkpoint_step(folder) >= 4


def test_a_killed_process_ends_the_training_and_two_go_on(tmp_path: Path) -> None:
    kill_a_rank(tmp_path, 1)
    (folder,) = (tmp_path / "runs").iterdir()
    run = train(Run.open(folder).config, folder.parent, "cpu", processes=2, stop_after_steps=12)
    steps = [row["step"] for row in read_rows(folder / "metrics.jsonl") if row["kind"] == "train"]
    assert steps == [*range(1, run.provenance["step"] + 1)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(LONG, tmp_path_factory.mktemp("whole"), "cpu", processes=2)


@pytest.mark.kills
@pytest.mark.parametrize("number", range(10))
def test_ten_killed_processes_of_ten_leave_a_training_that_resumes_to_the_same_weights(
    tmp_path: Path, whole: Run, number: int
) -> None:
    kill_a_rank(tmp_path, number % 2)
    (folder,) = (tmp_path / "runs").iterdir()
    resumed = train(LONG, folder.parent, "cpu", processes=2)
    tensors = [read_tensors(run.folder / "model.safetensors")[0] for run in (resumed, whole)]
    for name, value in tensors[0].items():
        assert torch.equal(value, tensors[1][name]), name


LAUNCHERS = {
    # Two machines of a cluster, as two launchers on this one.
    "torchrun": [
        ["-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(node), "--nproc-per-node", "1",
         "--master-addr", "127.0.0.1", "--master-port", "PORT"]
        for node in range(2)
    ],
    # A scheduler that starts each process itself.
    "environment": [[], []],
    "accelerate": [
        ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1",
         "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_ip", "127.0.0.1",
         "--main_process_port", "PORT"]
    ],
}  # fmt: skip


# Each starts four to six processes, half a minute together.
@pytest.mark.parametrize(
    "name", ["accelerate", *(pytest.param(name, marks=pytest.mark.slow) for name in ("environment", "torchrun"))]
)
def test_processes_of_other_launchers_train_together(tmp_path: Path, name: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = str(unused.getsockname()[1])
    words = ["-m", "vqlab", "train", "--runs", str(tmp_path / "two"), "--device", "cpu", *settings(TINY)]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    if name == "environment":
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    launchers = [
        subprocess.Popen(
            [sys.executable, *(port if word == "PORT" else word for word in launcher), *words],
            env=environment | ({"RANK": str(number), "LOCAL_RANK": str(number)} if not launcher else {}),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for number, launcher in enumerate(LAUNCHERS[name])
    ]  # fmt: skip
    outputs = [launcher.communicate(timeout=120)[0] for launcher in launchers]
    assert [launcher.returncode for launcher in launchers] == [0] * len(launchers), outputs
    one = train(Config.profile("quick", **TINY), tmp_path / "one", "cpu")
    two = Run.open(tmp_path / "two" / one.config.id)
    assert two.finished
    assert "".join(outputs).count(str(two.folder)) == 1
    assert_same_rows(two, one, tolerance=1e-4)  # the processes of a launcher train in float32


@pytest.mark.slow  # Starts three processes that import everything, a quarter of a minute.
def test_the_function_launcher_of_accelerate_trains_in_two_processes(tmp_path: Path) -> None:
    code = """
import json, sys
import accelerate
from vqlab import Config, train
config = Config.profile("quick", **json.loads(sys.argv[1]))
accelerate.debug_launcher(train, (config, sys.argv[2], "cpu"), num_processes=2)
print(config.id)
"""
    done = subprocess.run([sys.executable, "-c", code, json.dumps(TINY), str(tmp_path)], capture_output=True, text=True)
    run = Run.open(tmp_path / done.stdout.split()[-1])
    assert run.finished, done.stderr
    assert run.provenance["processes"] == 2


def test_other_commands_refuse_to_run_in_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = vqlab("study", "factors")
    assert done.returncode == 2
    assert "study: runs in one process, not 2" in done.stderr


def test_missing_variables_of_a_launcher_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = vqlab("train", "--runs", str(tmp_path), "--device", "cpu")
    assert done.returncode == 2
    assert "WORLD_SIZE=2: needs RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT too" in done.stderr


def test_progress_and_results_of_processes_reach_the_caller(tmp_path: Path) -> None:
    code = """
import json, sys
from vqlab import Config, train
rows = []
run = train(Config.profile("quick", **json.loads(sys.argv[1])), sys.argv[2], "cpu", rows.append, processes=2)
print(json.dumps([run.finished, [row["step"] for row in rows if row["kind"] == "train"], rows[0]["total_steps"]]))
"""
    done = run_program(code, json.dumps(TINY), str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [True, [*range(1, 17)], 16]
