"""How much memory the pixels of a data source may take before they are mapped from a file."""

from __future__ import annotations

import math
import os

from vqlab.errors import InputError

VARIABLE = "VQLAB_DATA_MEMORY"
_SHARE = 0.25
# For systems that do not tell their memory.
_UNKNOWN_MEMORY = 8 << 30


def memory_budget(memory: float | None = None) -> int:
    """Read the largest size of a set of images that is held in memory.

    Args:
        memory: ``data.memory`` of a Config, GiB.

    Returns:
        Bytes: ``memory`` if it is given, else ``$VQLAB_DATA_MEMORY`` (GiB), or a quarter of the machine's memory if
        that is not set.

    Raises:
        InputError: if the variable is not a number of at least 0.

    Example:
        >>> 0 < memory_budget() <= total_memory()
        True
    """
    if memory is not None:
        return int(memory * 2**30)
    given = os.environ.get(VARIABLE)
    if not given:
        return int(_SHARE * total_memory())
    try:
        size = float(given)
    except ValueError:
        size = math.nan
    if not 0 <= size < math.inf:
        raise InputError(f"{VARIABLE}={given[:80]}: must be a number of GiB, at least 0; set it, or unset it")
    return int(size * 2**30)


def total_memory() -> int:
    """Read the memory of the machine, or of its container if that has less.

    Returns:
        Bytes.
    """
    try:
        installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        installed = _UNKNOWN_MEMORY
    try:
        with open("/sys/fs/cgroup/memory.max") as file:
            return min(installed, int(file.read()))
    except (OSError, ValueError):
        return installed
