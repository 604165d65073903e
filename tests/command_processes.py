"""Commands of vqlab in real processes that start in a moment, to which tests send signals.

A server process imports torch and vqlab once and forks a process for each command, with the folder and the environment
of the test. A process may be told to kill itself at an exact place: see ``Kill``.
"""

from __future__ import annotations

import atexit
import faulthandler
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from torch.multiprocessing import start_processes

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([
    "torch._dynamo", "tensorboard.summary.writer.record_writer", "piq", "pandas", "scipy.stats", "optuna", "sqlalchemy",
    "vqlab.cli", "vqlab.studies", "vqlab.training", "vqlab.widgets", "command_processes",
])  # fmt: skip
MAIN = "from vqlab.cli import main; main()"
# What a few steps need; every process of a test has them.
TINY = {
    "data.train_limit": 64, "data.test_limit": 16, "optim.batch_size": 8, "optim.epochs": 2, "model.hidden": 8,
    "model.residual_hidden": 4, "model.residual_blocks": 1, "quantizer.num_codes": 16, "quantizer.dim": 8,
    "quantizer.restart_every": 3, "evaluation.log_every": 1, "evaluation.checkpoint_every": 3,
}  # fmt: skip


class Kill(NamedTuple):
    """A place at which a process kills itself.

    ``before`` and ``after`` the n-th call of ``os.replace`` or ``os.fsync`` or the n-th row of a log; ``inside`` cuts
    what is being written, as a kill in the middle of a write leaves it.
    """

    when: str
    what: str
    number: int


def vqlab(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as ``subprocess.run`` does with ``python -m vqlab``."""
    return run_program(MAIN, *words)


def run_program(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python code with arguments to its end, as ``subprocess.run`` does with ``python -c``."""
    with tempfile.TemporaryDirectory() as folder:
        output, errors = Path(folder, "output"), Path(folder, "errors")
        status = Command(list(words), output, errors=errors, code=code).wait(300)
        return subprocess.CompletedProcess(words, status, *(path.read_text() for path in (output, errors)))


def run_ranks(function: Callable[..., None], *arguments: object) -> None:
    """Call a function in two processes, with the number of the process as its first argument."""
    start_processes(function, arguments, nprocs=2, start_method="forkserver")


def settings(values: dict[str, Any]) -> list[str]:
    """Options of the command for changes of a Config."""
    return [word for key, value in values.items() for word in ("--set", f"{key}={json.dumps(value)}")]


class Command:
    """A command that runs in a process of its own; its output is in the file ``output``."""

    def __init__(
        self, words: list[str], output: Path, kill: Kill | None = None, counts: Path | None = None,
        errors: Path | None = None, code: str = MAIN,
    ) -> None:  # fmt: skip
        self.output = output
        output.touch()
        environment = dict(os.environ)
        self.process = _CONTEXT.Process(target=_run, args=(code, words, environment, output, errors, kill, counts))
        self.process.start()

    def send(self, number: int) -> None:
        assert self.process.pid
        os.kill(self.process.pid, number)

    def wait(self, timeout: float = 120) -> int:
        """The exit status as of ``subprocess``: negative for the signal that ended the process."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.send(signal.SIGUSR2)  # writes where each thread is
            time.sleep(1)
            self.process.kill()
            raise AssertionError(f"still running after {timeout} s: {self.text()}")
        return self.process.exitcode

    def wait_for(self, condition: Callable[[], object], timeout: float = 60) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, self.text()
            assert self.process.is_alive(), self.text()
            time.sleep(0.002)

    def text(self) -> str:
        return self.output.read_text(errors="replace")


def _run(
    code: str, words: list[str], environment: dict[str, str], output: Path, errors: Path | None, kill: Kill | None,
    counts: Path | None,
) -> None:  # fmt: skip
    os.environ.clear()
    os.environ.update(environment)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    os.dup2(os.open(output, flags), 1)
    os.dup2(1 if errors is None else os.open(errors, flags), 2)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    faulthandler.register(signal.SIGUSR2, sys.stderr)
    if kill or counts:
        _watch(kill, counts)
    sys.argv = ["vqlab", *words]
    try:
        exec(compile(code, "<command>", "exec"), {"__name__": "__main__"})
    finally:
        atexit._run_exitfuncs()  # which a forked process leaves out


def _watch(kill: Kill | None, counts: Path | None) -> None:
    """Count the calls at which a process can be killed, and kill it at one of them."""
    from vqlab.training.logs import JsonLines

    numbers: Counter[str] = Counter()

    def watched(what: str, function: Callable[..., Any], cut: Callable[..., object]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            numbers[what] += 1
            now = kill is not None and (kill.what, kill.number) == (what, numbers[what])
            if counts:
                counts.write_text(json.dumps(numbers))
            if kill and now and kill.when == "before":
                _kill_self()
            if kill and now and kill.when == "inside":
                cut(*arguments)
                _kill_self()
            result = function(*arguments)
            if now:
                _kill_self()
            return result

        return call

    def cut_row(log: JsonLines, row: dict[str, Any]) -> None:
        line = json.dumps(row)
        with log.path.open("a") as file:
            file.write(line[: len(line) // 2])

    os.replace = watched("replace", os.replace, lambda source, target: _cut(Path(source)))
    os.fsync = watched("fsync", os.fsync, lambda descriptor: _cut(Path(os.readlink(f"/proc/self/fd/{descriptor}"))))
    JsonLines.append = watched("row", JsonLines.append, cut_row)  # type: ignore[method-assign]


def _cut(path: Path) -> None:
    """Cut what this process is writing: a file with a temporary name, or the last line of the journal."""
    size = path.stat().st_size
    if path.name.endswith(".part"):
        os.truncate(path, size // 2)
    elif path.name.endswith(".journal"):
        os.truncate(path, size - 5)


def _kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
