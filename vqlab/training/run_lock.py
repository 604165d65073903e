"""A lock per Run: at most one call, thread or process trains it at a time, the others wait."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from vqlab.errors import WorkError
from vqlab.files import TEMPORARY_ENDING, acquire_lock
from vqlab.training.run_folder import RunFolder

# Files that only the holder of the lock writes.
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
        _remove_unfinished_files(run)
        yield not run.finished
    finally:
        lock.release()
        # Every caller that still waits, or comes later, sees a finished Run: the file is no longer needed.
        if run.finished:
            with suppress(OSError):
                path.unlink()


@contextmanager
def untrained(folder: Path) -> Iterator[None]:
    """Hold the lock of a Run that nobody trains, until the end of the ``with`` block.

    Args:
        folder: the folder of the Run.

    Yields:
        Nothing.

    Raises:
        WorkError: if the Run is being trained.
        OSError: if the folder may not be written.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise WorkError(f"run {folder}: is being trained; stop that first") from None
    try:
        yield
    finally:
        lock.release()


def _remove_unfinished_files(run: RunFolder) -> None:
    """Remove what processes left that were killed while they wrote; the caller holds the lock."""
    for unfinished in run.folder.glob(f".*{TEMPORARY_ENDING}"):
        name, process = unfinished.name[1:].split(".")[0], unfinished.stem.rpartition(".")[2]
        if name in _WRITTEN_WITH_LOCK or (process.isdigit() and has_ended(int(process))):
            unfinished.unlink(missing_ok=True)


def has_ended(process: int) -> bool:
    """Whether a process of this machine is known to run no more.

    Args:
        process: its id.

    Returns:
        True if it has ended; False if it runs, or if that cannot be known.
    """
    if os.name != "posix":
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:  # of another user
        return False
    return False
