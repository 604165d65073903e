"""Peak memory of a training."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch


def reset_peak_memory(device: str) -> None:
    """Start counting anew: the device's allocator on CUDA, this process's resident memory on Linux."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mib(device: str) -> float | None:
    """Peak since ``reset_peak``, MiB: allocated on CUDA, resident on CPU; None where it cannot be read."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return None
