"""Arrays that took long to read, kept in the user's cache folder (VQLAB_CACHE overrides it)."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np


def cache_folder() -> Path:
    """$VQLAB_CACHE, else ~/.cache/vqlab."""
    return Path(os.environ.get("VQLAB_CACHE") or Path.home() / ".cache" / "vqlab")


def cached_arrays(key: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """``make()``, remembered under ``key``; a cache that cannot be read or written is done without."""
    path = cache_folder() / f"{key}.npz"
    try:
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError, zipfile.BadZipFile):
        arrays = make()
    beside = path.with_name(f"{key}.{os.getpid()}.part.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(beside, allow_pickle=False, **arrays)
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
    return arrays
