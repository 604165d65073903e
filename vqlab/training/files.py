"""Reading and writing the tensors of a Run; a file is complete or absent, never half written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from vqlab.errors import InputError
from vqlab.files import write_atomic


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
