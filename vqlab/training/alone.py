"""One training of a Run at a time, whoever asks: other calls, threads and processes wait for it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from filelock import FileLock, Timeout

from vqlab.training.run import Run

_LOOK_EVERY = 0.5


@contextmanager
def alone(run: Run, should_stop: Callable[[], bool]) -> Iterator[bool]:
    """Hold ``run``: True where it is yours to train, False where another finished it or ``should_stop`` ended the wait.

    The operating system frees what a killed process held.
    """
    path = run.folder / ".lock"
    lock = FileLock(path)
    told = False
    while True:
        try:
            lock.acquire(timeout=_LOOK_EVERY if told else 0)
            break
        except Timeout:
            if not told:
                warnings.warn(f"run {run.config.id}: being trained elsewhere; waiting for it", stacklevel=4)
                told = True
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
