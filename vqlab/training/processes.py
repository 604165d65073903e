"""Several processes of this machine that train one Config together, and what the caller sees of them."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vqlab import errors
from vqlab.config import Config
from vqlab.errors import InputError, WorkError
from vqlab.training.stop_signals import stop_signals
from vqlab.training.workers import RENDEZVOUS

# Seconds that the others get to end by themselves when a process has failed.
_GRACE = 10.0
_POLL = 0.05
_LARGEST = 64

Progress = Callable[[dict[str, Any]], None]


def train_in_processes(
    config: Config, root: Path, device: str | None, processes: int, progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None, **options: Any,
) -> None:  # fmt: skip
    """Train a Config in several processes of this machine, each on a part of every batch; see ``Workers``.

    A signal stops them together with a checkpoint. If one fails, the others are ended, too.

    Args:
        config: what to train.
        root: the folder of all Runs.
        device: as for ``vqlab.training.train``; with CUDA each process has a GPU of its own, in turn.
        processes: how many, 2 to 64.
        progress: as for ``vqlab.training.train``.
        should_stop: as for ``vqlab.training.train``; it is called in this process.
        **options: ``stop_after_steps``, ``retrain`` and ``force`` of ``vqlab.training.train``.

    Raises:
        InputError: if the number of processes is out of range, or as ``vqlab.training.train`` raises it.
        WorkError: if a process fails; the last checkpoint is kept.
    """
    if not 2 <= processes <= _LARGEST:
        raise InputError(f"processes={processes}: must be 2…{_LARGEST}")
    job = {"config": config.model_dump(mode="json"), "root": str(root.resolve()), "device": device, **options}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "job.json").write_text(json.dumps(job))
        with stop_signals() as received, _Processes(folder, processes, progress) as group:
            while group.run():
                if received.number is not None or (should_stop and should_stop()):
                    (folder / "stop").touch()


class _Processes:
    """The processes of one training, which are killed if the ``with`` block ends before they do."""

    def __init__(self, folder: Path, count: int, progress: Progress | None) -> None:
        self._progress = progress
        self._selector = selectors.DefaultSelector()
        self._rest = dict.fromkeys(range(count), b"")
        self._failures: list[tuple[int, str, str]] = []
        self._finished = set[int]()
        self._failed_at: float | None = None
        self._processes = [self._start(folder, rank, count) for rank in range(count)]

    def __enter__(self) -> _Processes:
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        for key in list(self._selector.get_map().values()):
            os.close(key.fd)
        self._selector.close()

    def run(self) -> bool:
        """Look after the processes for a moment; False when all have ended without an error."""
        for key, _ in self._selector.select(_POLL):
            self._read(key.fd, key.data)
        open_pipes = {key.data for key in self._selector.get_map().values()}
        ended = {
            rank: status for rank, process in enumerate(self._processes)
            if rank not in open_pipes and (status := process.poll()) is not None
        }  # fmt: skip
        failed = {rank: status for rank, status in ended.items() if rank not in self._finished}
        if failed and self._failed_at is None:
            self._failed_at = time.monotonic()
        if self._failed_at and (len(ended) == len(self._processes) or time.monotonic() > self._failed_at + _GRACE):
            self._raise(failed)
        return len(ended) < len(self._processes)

    def _start(self, folder: Path, rank: int, count: int) -> subprocess.Popen[bytes]:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        self._selector.register(reading, selectors.EVENT_READ, rank)
        threads = str(max(1, (os.cpu_count() or 1) // count))
        environment = {
            "OMP_NUM_THREADS": threads, **os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), RENDEZVOUS: str(folder / "rendezvous"),
            # Nothing of one machine's training listens on a network.
            "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
        }  # fmt: skip
        command = [sys.executable, "-m", "vqlab.training.rank", str(folder), str(writing)]
        try:
            # A session of their own: Ctrl-C reaches this process alone, which lets them end together.
            return subprocess.Popen(command, env=environment, pass_fds=[writing], start_new_session=True)
        finally:
            os.close(writing)

    def _read(self, pipe: int, rank: int) -> None:
        content = os.read(pipe, 1 << 16)
        if not content:
            self._selector.unregister(pipe)
            os.close(pipe)
            return
        *lines, self._rest[rank] = (self._rest[rank] + content).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "finished" in message:
                self._finished.add(rank)
            elif "error" in message:
                self._failures.append((rank, message["kind"], message["error"]))
            elif self._progress:
                self._progress(message)

    def _raise(self, failed: dict[int, int]) -> None:
        for rank, status in failed.items():
            if status < 0:
                raise WorkError(
                    f"process {rank} of {len(self._processes)} was ended by {signal.Signals(-status).name}; the last "
                    "checkpoint is kept, and the same command goes on from there"
                )
        # What the others say of a lost connection follows from the first failure.
        named = [failure for failure in self._failures if failure[1]] or self._failures
        rank, kind, text = named[0] if named else (next(iter(failed)), "", f"exit status {next(iter(failed.values()))}")
        if kind:
            raise getattr(errors, kind, WorkError)(text)
        raise WorkError(f"process {rank} of {len(self._processes)} failed: {text}; the last checkpoint is kept")
