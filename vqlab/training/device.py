"""The torch device that computes."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import torch

from vqlab.errors import InputError


def find_device(name: str | None = None) -> str:
    """Select a torch device.

    Args:
        name: a torch device such as ``cpu``, ``cuda`` or ``cuda:1``; None (default) selects CUDA if this machine has
            it, else the CPU.

    Returns:
        The name of the device.

    Raises:
        InputError: if this machine does not have the device.

    Example:
        >>> find_device("cpu")
        'cpu'
    """
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        # A device without memory, such as meta, has no values.
        torch.zeros(1, device=name).item()
    except Exception:  # Devices that a build of torch lacks raise many kinds of errors.
        raise InputError(
            f"device={name!r}: is not available on this machine; use cpu, or omit the device to select it automatically"
        ) from None
    return name


def describe_hardware(device: str) -> dict[str, str]:
    """Name what computes.

    Args:
        device: a torch device.

    Returns:
        ``processor``; on CUDA also ``accelerator``, ``driver``, and the version ``cuda`` that torch was built for.

    Example:
        >>> list(describe_hardware("cpu"))
        ['processor']
    """
    names = {"processor": _processor()}
    if torch.device(device).type == "cuda":
        names |= {
            "accelerator": torch.cuda.get_device_name(device), "driver": _driver(), "cuda": str(torch.version.cuda)
        }  # fmt: skip
    return names


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return output.splitlines()[0].strip() if output else "unknown"


def slow_precision(precision: str, device: str = "cpu") -> str:
    """Word why a precision is slow on this machine.

    Without units for bfloat16 a step took 14 times as long as with float32 (measured, vqlab on a processor with AVX2).

    Args:
        precision: ``optim.precision`` of a Config.
        device: the torch device that trains. Default ``cpu``.

    Returns:
        One line; empty if the precision is not known to be slow.

    Example:
        >>> slow_precision("fp32")
        ''
    """
    units = {
        "bf16": ("_is_avx512_bf16_supported", "_is_amx_tile_supported"),
        "fp16": ("_is_amx_fp16_supported",),
    }.get(precision, ())
    if not units or device != "cpu" or platform.machine().lower() not in ("x86_64", "amd64"):
        return ""
    if any(getattr(torch.cpu, name, bool)() for name in units):
        return ""
    return (
        f"optim.precision={precision}: this processor has no units for it, and steps may take ten times as long; fp32 "
        "is faster here"
    )
