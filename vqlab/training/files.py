"""Files written whole: beside, then renamed, so a reader never sees half of one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` on a path beside ``path``, then rename; on any failure ``path`` stays as it was."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """``value`` as indented JSON, written whole."""
    write_whole(path, lambda beside: beside.write_text(json.dumps(value, indent=2) + "\n"))
