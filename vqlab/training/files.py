"""Files written whole: beside, then renamed, so a reader never sees half of one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from vqlab.errors import InputError


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` on a path beside ``path``, then rename; on any failure ``path`` stays as it was."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """``value`` as indented JSON, written whole."""
    write_atomic(path, lambda beside: beside.write_text(json.dumps(value, indent=2) + "\n"))


def read_json(path: Path) -> Any:
    """The value in ``path``; raises InputError with one line where it is no whole JSON."""
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise InputError(f"{path}: not whole JSON; remove this file, or the Run's folder, and train again") from None


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name and the text metadata of a safetensors file; raises InputError for a damaged one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as stored:
            return {key: stored.get_tensor(key) for key in stored.keys()}, stored.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path}: damaged ({error}); remove this file and train again") from None
