"""Where tensors live: found, unless named."""

from __future__ import annotations

import torch

from vqlab.errors import InputError


def find_device(name: str | None = None) -> str:
    """``name``, else CUDA where there is one, else CPU; raises InputError for a device that is not here."""
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError):
        raise InputError(f"device={name!r}: not on this machine; use cpu, or leave it out to have one found") from None
    return name
