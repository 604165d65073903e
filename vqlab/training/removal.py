"""Removal of a Run, which nobody trains, as a whole."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from vqlab.errors import InputError, WorkError
from vqlab.training.run_lock import has_ended, untrained


def check_is_run(folder: str | Path) -> None:
    """Refuse a folder that is not that of a Run, finished or not, before it is removed.

    Args:
        folder: the folder.

    Raises:
        InputError: if the folder has no ``config.json``.
    """
    if not (Path(folder) / "config.json").is_file():
        raise InputError(f"run {folder}: has no config.json, so it is not a Run; nothing was removed")


def remove_run(folder: str | Path) -> None:
    """Remove the folder of a Run with all its files.

    The folder is renamed first, so that a removal that is killed leaves no part of a Run; such a rest begins with
    ``.removed``, and the next removal beside it ends it.

    Args:
        folder: the folder of a Run, also of an unfinished or damaged one.

    Raises:
        InputError: if the folder has no ``config.json``.
        WorkError: if the Run is being trained, or the files cannot be removed.
    """
    folder = Path(folder)
    check_is_run(folder)
    removed = folder.with_name(f".removed-{folder.name}-{os.getpid()}")
    try:
        with untrained(folder):
            os.replace(folder, removed)
            shutil.rmtree(removed)
    except OSError as error:
        raise WorkError(f"run {folder}: cannot be removed ({error.strerror or error})") from None
    for rest in folder.parent.glob(".removed-*"):
        process = rest.name.rpartition("-")[2]
        if process.isdigit() and has_ended(int(process)):
            shutil.rmtree(rest, ignore_errors=True)
