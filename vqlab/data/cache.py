"""Arrays that are slow to compute, stored in the user's cache folder."""

from __future__ import annotations

import errno
import os
import sys
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from vqlab.files import check_format, error_parts, write_atomic

FORMAT_VERSION = 1
# The comment of the zip file, which other readers pass over, ends in the version.
_FORMAT = b"vqlab format "


def cache_folder() -> Path:
    """Return the folder for downloaded and computed files.

    Returns:
        ``$VQLAB_CACHE``, or ``~/.cache/vqlab`` if it is not set. The folder may not exist.

    Raises:
        OSError: if it is not set and the user has no home folder.
    """
    if given := os.environ.get("VQLAB_CACHE"):
        return Path(given)
    try:
        return Path.home() / ".cache" / "vqlab"
    except RuntimeError:
        raise FileNotFoundError(errno.ENOENT, "this user has no home folder", "~/.cache/vqlab") from None


def report_no_cache(error: OSError) -> None:
    """Say on standard error, once in a process, why nothing can be stored in the cache folder.

    Args:
        error: of reading or writing a file there.
    """
    _report_once(os.environ.get("VQLAB_CACHE") or "~/.cache/vqlab", error_parts(error)[1])


@cache
def _report_once(folder: str, reason: str) -> None:
    text = f"cache folder {folder}: {reason}; nothing is stored there: set VQLAB_CACHE to a folder that can be written"
    print(text, file=sys.stderr, flush=True)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an npz file; nothing is unpickled.

    Args:
        path: the file.

    Returns:
        The arrays by name.

    Raises:
        OSError: if the file cannot be opened.
        ValueError: if it is empty, cut short or not an npz file.
    """
    # An open file is given to numpy, because numpy leaves one open that it cannot read.
    with path.open("rb") as file:
        try:
            # numpy takes other files for pickles, which it refuses with advice to read them all the same.
            if not zipfile.is_zipfile(file):
                raise ValueError(f"{path}: not a whole npz file")
            file.seek(0)
            with np.load(file, allow_pickle=False) as stored:
                return dict(stored)
        except ValueError:
            raise
        except Exception as error:  # zipfile and numpy raise many kinds of errors on damaged files.
            raise ValueError(f"{path}: not a whole npz file ({error})") from None


def cached_arrays(key: str, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Read arrays from the cache, or compute and store them.

    A cache file that is unreadable is replaced. If the cache folder cannot be written, nothing is stored.

    Args:
        key: file name in the cache folder, without ``.npz``. It must contain everything that the result depends on.
        compute: returns the arrays by name; called only if the cache does not have them.

    Returns:
        The arrays by name.

    Raises:
        WorkError: if a newer version of vqlab stored them.
    """
    try:
        path = cache_folder() / f"{key}.npz"
        arrays, version = read_arrays(path), _format_version(path)
    except (OSError, ValueError):
        arrays = compute()
        _store(key, arrays)
        return arrays
    check_format(str(path), version, FORMAT_VERSION, "remove the file")
    return arrays


def _store(key: str, arrays: dict[str, np.ndarray]) -> None:
    try:
        path = cache_folder() / f"{key}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, lambda temporary: _write(temporary, arrays))
    except OSError as error:
        report_no_cache(error)


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"%s%d" % (_FORMAT, FORMAT_VERSION)


def _format_version(path: Path) -> int | None:
    with zipfile.ZipFile(path) as archive:
        prefix, _, version = archive.comment.rpartition(b" ")
    return int(version) if prefix + b" " == _FORMAT else None
