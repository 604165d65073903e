"""One training of a Run at a time, whoever asks: other calls, threads and processes wait for it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_LOOK_EVERY = 0.5


@contextmanager
def alone(folder: Path, should_stop: Callable[[], bool]) -> Iterator[bool]:
    """Hold the Run in ``folder``: True once nobody else trains it, False where ``should_stop`` ended the wait.

    The operating system frees what a killed process held.
    """
    lock = FileLock(folder / ".lock")
    told = False
    while True:
        try:
            lock.acquire(timeout=_LOOK_EVERY if told else 0)
            break
        except Timeout:
            if not told:
                warnings.warn(f"run {folder.name}: being trained elsewhere; waiting for it", stacklevel=4)
                told = True
            if should_stop():
                yield False
                return
    try:
        yield True
    finally:
        lock.release()
