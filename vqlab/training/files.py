"""Reading and writing the files of a Run; a file is complete or absent, never half written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

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


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as a safetensors file with ``write_atomic``.

    Args:
        path: the file to write; its folder must exist.
        tensors: tensors by name, on any device.
        metadata: text by name. Default None.

    Raises:
        OSError: if the file cannot be written, as on a full disk; safetensors raises an error of its own kind.
    """
    on_cpu = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}

    def write(temporary: Path) -> None:
        try:
            save_file(on_cpu, temporary, None if metadata is None else dict(metadata))
        except SafetensorError as error:
            raise OSError(f"{path}: cannot be written: {error}") from None

    write_atomic(path, write)


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


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file.

    Args:
        path: an existing file.

    Returns:
        The tensors by name, on the CPU, and the metadata (text by name).

    Raises:
        InputError: if the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as stored:
            return {key: stored.get_tensor(key) for key in stored.keys()}, stored.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path}: is damaged ({error}); remove this file and train again") from None
