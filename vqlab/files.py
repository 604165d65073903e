"""Reading, writing and locking files without torch, whose import takes seconds; a file is complete or absent."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, Timeout

from vqlab.errors import InputError, WorkError

# Of files that are being written, and of those that a killed process left.
TEMPORARY_ENDING = ".part"
_POLL_SECONDS = 0.5
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name in the same folder, then rename it to ``path``.

    Readers see the old file or the new one, also after a loss of power: the content is on the disk before the file has
    its name. If ``write`` fails, ``path`` is unchanged and the temporary file is removed. The permissions are those of
    any new file.

    Args:
        path: the file to write; its folder must exist.
        write: writes the content to the path that it receives.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_ENDING}")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        with named_errors(path):
            write(temporary)
        # Some writers replace the file by one that nobody else may read.
        temporary.chmod(mode)
        synchronize(temporary)
        os.replace(temporary, path)
        synchronize(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def synchronize(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk.

    Args:
        path: an existing file or folder; nothing happens where a folder cannot be synchronized.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Give the errors of writing a file the name of the file, which the system leaves out.

    Args:
        path: the file that the ``with`` block writes.

    Yields:
        Nothing.

    Raises:
        OSError: as in the block.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def error_parts(error: OSError) -> tuple[str, str]:
    """Split an error of the system.

    Args:
        error: the error.

    Returns:
        The file that it names, and the reason.

    Example:
        >>> error_parts(PermissionError(13, "Permission denied", "/root/x"))
        ('/root/x', 'Permission denied')
    """
    return str(error.filename or "a file"), error.strerror or str(error)


def acquire_lock(lock: BaseFileLock, line: str, should_stop: Callable[[], bool] = lambda: False) -> bool:
    """Acquire a file lock; a line on standard error announces a wait.

    Args:
        lock: the lock.
        line: says what is waited for.
        should_stop: called about twice per second while waiting; True ends the wait. Default: never.

    Returns:
        True if the lock was acquired, False if ``should_stop`` ended the wait.
    """
    try:
        lock.acquire(timeout=0)
        return True
    except Timeout:
        print(line, file=sys.stderr, flush=True)
    while not should_stop():
        try:
            lock.acquire(timeout=_POLL_SECONDS)
            return True
        except Timeout:
            continue
    return False


@contextmanager
def skip_if_read_only(path: Path) -> Iterator[None]:
    """Go on without a file that only saves work, where its folder may not be written; one line says so.

    Args:
        path: the file that the ``with`` block writes.

    Yields:
        Nothing.

    Raises:
        OSError: if the file cannot be written for another reason, such as a full disk.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise
        print(
            f"{path}: is not stored ({error.strerror}), so it is computed again next time", file=sys.stderr, flush=True
        )


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON with ``write_atomic``.

    Args:
        path: the file to write; its folder must exist.
        value: anything that ``json.dumps`` accepts.
    """
    write_atomic(path, lambda temporary: temporary.write_text(json.dumps(value, indent=2) + "\n"))


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Args:
        path: an existing file.

    Returns:
        The decoded value.

    Raises:
        WorkError: if the content is not JSON, as in a truncated file.
    """
    try:
        return json.loads(path.read_text())
    except (ValueError, RecursionError):
        raise WorkError(f"{path}: is not valid JSON; remove this file or the Run's folder, and train again") from None


def check_format(name: str, found: object, known: int, remedy: str) -> None:
    """Refuse what a newer version of vqlab has written.

    Args:
        name: name of the file, which begins the message.
        found: the format version that is stored there; None in what version 0.1 wrote without one.
        known: the newest format version that can be read.
        remedy: what to do instead of upgrading.

    Raises:
        WorkError: if the version is newer, or no version at all.

    Example:
        >>> check_format("studies.journal", 2, known=1, remedy="move it away")
        Traceback (most recent call last):
        ...
        vqlab.errors.WorkError: studies.journal: was written by a newer vqlab (format 2; this version reads up to 1); \
upgrade vqlab, or move it away
    """
    if found is None or (type(found) is int and 0 < found <= known):
        return
    if type(found) is int and found > known:
        raise WorkError(
            f"{name}: was written by a newer vqlab (format {str(found)[:20]}; this version reads up to {known}); "
            f"upgrade vqlab, or {remedy}"
        )
    raise WorkError(f"{name}: is damaged (format is {str(found)[:20]!r}, must be 1…{known}); {remedy}")


def output_folder(text: str, *, writable: bool = True) -> Path:
    """Check that a folder can be written, before the work whose results go there.

    Args:
        text: the path as it was given; the folder need not exist.
        writable: whether it must be writable. Default True; False for a folder that may be read only.

    Returns:
        The path.

    Raises:
        InputError: if the path is empty, leads through a file, or its nearest existing folder cannot be written.

    Example:
        >>> output_folder("")
        Traceback (most recent call last):
        ...
        vqlab.errors.InputError: is empty; give a folder, "." for this one
    """
    if not text.strip():
        raise InputError('is empty; give a folder, "." for this one')
    path = Path(text)
    nearest = next(folder for folder in (path, *path.absolute().parents) if os.path.lexists(folder))
    if not nearest.is_dir():
        raise InputError(f"{path}: {nearest} is no folder; give another path")
    if writable and not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"{path}: {nearest} is not writable; give another path, or change its permissions")
    return path


def output_file(text: str) -> Path:
    """Check that a file can be written, before the work whose result it holds.

    Args:
        text: the path as it was given; an existing file is replaced.

    Returns:
        The path.

    Raises:
        InputError: if the path is empty or a folder, or its folder does not exist or cannot be written.

    Example:
        >>> output_file("missing/table.csv")
        Traceback (most recent call last):
        ...
        vqlab.errors.InputError: missing/table.csv: the folder missing does not exist; create it
    """
    if not text.strip():
        raise InputError("is empty; give the path of a file")
    path = Path(text)
    if not path.parent.exists():
        raise InputError(f"{path}: the folder {path.parent} does not exist; create it")
    output_folder(str(path.parent))
    if path.is_dir() or (path.exists() and not os.access(path, os.W_OK)):
        raise InputError(f"{path}: is a folder or not writable; give another path")
    return path
