"""One training of a Run at a time, whoever asks: other calls, threads and processes wait for it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from filelock import FileLock, Timeout

from vqlab.training.run_folder import RunFolder

_POLL_SECONDS = 0.5


@contextmanager
def run_lock(run: RunFolder, should_stop: Callable[[], bool]) -> Iterator[bool]:
    """Hold ``run``: True where it is yours to train, False where another finished it or ``should_stop`` ended the wait.

    The operating system frees what a killed process held.
    """
    path = run.folder / ".lock"
    lock = FileLock(path)
    warned = False
    while True:
        try:
            lock.acquire(timeout=_POLL_SECONDS if warned else 0)
            break
        except Timeout:
            if not warned:
                warnings.warn(f"run {run.config.id}: being trained elsewhere; waiting for it", stacklevel=4)
                warned = True
            if should_stop():
                yield False
                return
    try:
        yield not run.finished
    finally:
        lock.release()
        # Whoever waits still, or comes now, finds the Run finished: nobody needs the file any more.
        if run.finished:
            with suppress(OSError):
                path.unlink()
