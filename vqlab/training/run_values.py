"""The values of a Run's files, checked as they are read: a damaged or foreign file is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vqlab.data.cache import read_arrays
from vqlab.errors import WorkError
from vqlab.files import read_json
from vqlab.training.logs import read_rows

_TEXT = ("kind", "data", "part", "perplexity_window")
_TEXT_ENDINGS = ("_by", "_reason")
_PROVENANCE: dict[str, tuple[type, ...]] = {
    "packages": (dict,), "codec": (dict,), "data_notes": (list,), "data_fingerprint": (str,), "device": (str,),
    "python": (str,), "classes": (int,), "step": (int,), "seed": (int,), "threads": (int,), "finished": (bool, int),
    "wall_seconds": (int, float), "peak_memory_mib": (int, float),
    "git": (str, type(None)), "data_key": (str, type(None)),
}  # fmt: skip


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds values by name.

    Args:
        path: an existing file.

    Returns:
        The values.

    Raises:
        WorkError: if the file is damaged, or holds anything else.
    """
    values = read_json(path)
    if not isinstance(values, dict):
        raise _damaged(path, f"holds {_kind(values)} instead of values by name")
    return values


def read_provenance(path: Path) -> dict[str, Any]:
    """Read ``provenance.json``.

    Args:
        path: the file, which may be missing.

    Returns:
        The values; none if the file is missing.

    Raises:
        WorkError: if the file is damaged, or a value has the wrong type.
    """
    values = read_object(path) if path.is_file() else {}
    for name, kinds in _PROVENANCE.items():
        value = values.get(name)
        if name in values and not isinstance(value, kinds):
            raise _damaged(path, f"{name} is {_kind(value)}")
        if isinstance(value, int | float) and not abs(value) < 2**63:
            raise _damaged(path, f"{name} is too large")
    return values


def read_measures(path: Path) -> dict[str, Any]:
    """Read a file of measured columns, such as ``evaluation.json``.

    Args:
        path: an existing file.

    Returns:
        The columns: numbers, texts, and None for what is not measured.

    Raises:
        WorkError: if the file is damaged, or a value has the wrong type.
    """
    values = read_object(path)
    if reason := _wrong_measure(values):
        raise _damaged(path, reason)
    return values


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the rows of ``metrics.jsonl``.

    Args:
        path: the file, which may be missing.

    Returns:
        The rows, each with its ``kind``, ``step`` and ``epoch``.

    Raises:
        WorkError: if a row lacks one of these, or a value has the wrong type.
    """
    rows = read_rows(path)
    for number, row in enumerate(rows, 1):
        missing = [name for name in ("kind", "step", "epoch") if name not in row]
        if reason := f"has no {missing[0]}" if missing else _wrong_measure(row):
            raise _damaged(path, f"line {number}: {reason}")
    return rows


def read_codebook(path: Path, num_codes: int, codes_per_vector: int = 1) -> dict[str, np.ndarray]:
    """Read ``codebook.npz``.

    Args:
        path: an existing file.
        num_codes: K, columns of its arrays.
        codes_per_vector: p, number of indices for one vector. Default 1.

    Returns:
        The arrays: ``usage``, int64 (epochs, K), and ``windows``, int64 (windows, K), if the file has it; with
        p above 1 (epochs, p, K) and (windows, p, K).

    Raises:
        WorkError: if the file is damaged or that of another Run.
    """
    try:
        arrays = read_arrays(path)
    except ValueError as error:
        raise _damaged(path, str(error).removeprefix(f"{path}: ")) from None
    if "usage" not in arrays:
        raise _damaged(path, "has no array usage")
    shape = (num_codes,) if codes_per_vector == 1 else (codes_per_vector, num_codes)
    for name in ("usage", "windows"):
        array = arrays.get(name)
        if array is None:
            continue
        if array.dtype != np.int64 or array.ndim == 0 or array.shape[1:] != shape or not len(array):
            raise _damaged(path, f"{name} is {array.dtype} {array.shape}, must be int64 (n, {str(shape).strip('(),')})")
        if array.min() < 0 or array.max() >= 2**53:
            raise _damaged(path, f"{name} has counts below 0 or above all images")
    return arrays


def _wrong_measure(values: Mapping[str, Any]) -> str:
    """What is wrong with a value that is neither a number, nor a text where one is expected; empty if all are right."""
    for name, value in values.items():
        is_text = name in _TEXT or name.endswith(_TEXT_ENDINGS)
        if value is not None and not isinstance(value, str if is_text else int | float):
            return f"{name[:80]} is {_kind(value)}, must be a {'text' if is_text else 'number'}"
        if isinstance(value, int) and abs(value) >= 2**63:
            return f"{name[:80]} is too large"
    return ""


def _kind(value: object) -> str:
    names = {dict: "values by name", list: "a list", str: "a text", type(None): "null", bool: "a truth value"}
    return names.get(type(value), "a number")


def _damaged(path: Path, reason: str) -> WorkError:
    return WorkError(f"{path}: is damaged ({reason}); put back the file, or remove it and train again")
