"""The torch device that computes."""

from __future__ import annotations

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
