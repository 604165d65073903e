"""Reading and writing the tensors of a Run; a file is complete or absent, and damage is found by a checksum."""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from vqlab.errors import WorkError
from vqlab.files import write_atomic

_CHECKSUM = "checksum"


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

    text = {**(metadata or {}), _CHECKSUM: _checksum(on_cpu)}

    def write(temporary: Path) -> None:
        try:
            save_file(on_cpu, temporary, text)
        except SafetensorError as error:
            raise OSError(_error_number(error), f"cannot be written: {error}", str(path)) from None

    write_atomic(path, write)


def _error_number(error: SafetensorError) -> int:
    """The number of the system's error in the text of one of safetensors, such as that of a full disk."""
    found = re.search(r"os error (\d+)", str(error))
    return int(found.group(1)) if found else errno.EIO


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file.

    Args:
        path: an existing file.

    Returns:
        The tensors by name, on the CPU, and the metadata (text by name).

    Raises:
        WorkError: if the file is damaged, or its tensors differ from those that were written.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as stored:
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
            metadata = stored.metadata() or {}
    except SafetensorError as error:
        raise WorkError(f"{path}: is damaged ({error}); train again to write it again") from None
    # Files of version 0.1 have none.
    if metadata.pop(_CHECKSUM, None) not in (None, _checksum(tensors)):
        raise WorkError(f"{path}: is damaged (its checksum differs); train again to write it again")
    return tensors, metadata


def differing_tensor(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], *, finite: bool = True) -> str:
    """Find the first tensor that keeps stored tensors from being those of a module.

    Args:
        expected: ``state_dict`` of the module.
        found: the stored tensors.
        finite: whether values that are not finite are wrong, too. Default True.

    Returns:
        What is wrong: a name that is missing or unknown, another shape, or values that are not finite; empty if the
        tensors fit.
    """
    for name, tensor in expected.items():
        if name not in found:
            return f"has no {name}"
        if found[name].shape != tensor.shape or found[name].is_floating_point() != tensor.is_floating_point():
            return f"{name} is {found[name].dtype} {tuple(found[name].shape)}, must be {tuple(tensor.shape)}"
        if finite and not found[name].isfinite().all():
            return f"{name} has values that are not finite"
    unknown = sorted(set(found) - set(expected))
    return f"unknown tensor {unknown[0][:80]}" if unknown else ""


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
