"""Reading and writing small files without torch, whose import takes seconds; a file is complete or absent."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vqlab.errors import InputError


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name in the same folder, then rename it to ``path``.

    Readers see the old file or the new one. If ``write`` fails, ``path`` is unchanged and the temporary file is
    removed.

    Args:
        path: the file to write; its folder must exist.
        write: writes the content to the path that it receives.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
        InputError: if the content is not JSON, as in a truncated file.
    """
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise InputError(f"{path}: is not valid JSON; remove this file or the Run's folder, and train again") from None
