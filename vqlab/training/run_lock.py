"""A lock per Run: at most one call, thread or process trains it at a time, the others wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from filelock import FileLock

from vqlab.files import TEMPORARY_ENDING, acquire_lock
from vqlab.training.run_folder import RunFolder

# Beginnings of the names of files that only the holder of the lock writes.
_WRITTEN_WITH_LOCK = ("checkpoint", "model", "provenance", "metrics", "angles", "codebook")


@contextmanager
def run_lock(run: RunFolder, should_stop: Callable[[], bool]) -> Iterator[bool]:
    """Acquire the lock of a Run, and release it at the end of the ``with`` block.

    The lock is a file lock (``.lock`` in the folder of the Run): the operating system releases it if the process is
    killed. A wait is announced by one line on standard error.

    Args:
        run: the Run to train.
        should_stop: called about twice per second while waiting; True ends the wait.

    Yields:
        True if the caller has the lock and the Run must be trained; False if another caller has finished the Run,
        or if ``should_stop`` ended the wait.
    """
    path = run.folder / ".lock"
    lock = FileLock(path)
    if not acquire_lock(
        lock, f"run {run.config.id}: is being trained by another thread or process; waiting for it", should_stop
    ):
        yield False
        return
    try:
        # Of processes that were killed while they wrote; nobody else writes to the folder now.
        for name in _WRITTEN_WITH_LOCK:
            for unfinished in run.folder.glob(f".{name}.*{TEMPORARY_ENDING}"):
                unfinished.unlink(missing_ok=True)
        yield not run.finished
    finally:
        lock.release()
        # Every caller that still waits, or comes later, sees a finished Run: the file is no longer needed.
        if run.finished:
            with suppress(OSError):
                path.unlink()
