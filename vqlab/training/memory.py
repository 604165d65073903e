"""Peak memory of a training or of a measurement."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch


def reset_peak_memory(device: str) -> None:
    """Restart the peak counter that ``peak_memory_mib`` reads.

    Args:
        device: a CUDA device resets its allocator's counter; ``cpu`` resets that of this process's resident memory,
            on Linux only.
    """
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mib(device: str) -> float | None:
    """Read the peak memory since ``reset_peak_memory``.

    Args:
        device: a CUDA device reads the memory allocated by torch; ``cpu`` reads the resident memory of this process.

    Returns:
        MiB; None if the system does not report it (CPU, outside Linux).
    """
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return None
