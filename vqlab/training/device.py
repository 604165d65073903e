"""The torch device that computes."""

from __future__ import annotations

import platform

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
