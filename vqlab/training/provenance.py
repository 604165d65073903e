"""Provenance of a Run: software versions, device, seed and data."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from vqlab.training.device import describe_hardware
from vqlab.versions import package_version

PACKAGES = ("vqlab", "torch", "torchvision", "numpy", "piq", "safetensors")


def collect_provenance(device: str, seed: int, fingerprint: str) -> dict[str, Any]:
    """Describe the software, hardware and inputs that decide the numbers of a Run.

    Args:
        device: the torch device that trains.
        seed: the Config's seed.
        fingerprint: ``ImageData.fingerprint``, a hash of all pixels and labels.

    Returns:
        JSON values: ``packages`` (version by name of PACKAGES; None if not installed), ``python``, ``git`` (commit
        of vqlab's checkout, with ``-dirty`` if files differ from it; None outside a checkout), ``device``,
        ``hardware`` (see ``describe_hardware``), ``threads`` (torch's CPU threads), ``seed`` and ``data_fingerprint``.
    """
    return {
        "packages": {name: package_version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "git": _git_commit(Path(__file__).resolve().parents[2]),
        "device": device,
        "hardware": describe_hardware(device),
        "threads": torch.get_num_threads(),
        "seed": seed,
        "data_fingerprint": fingerprint,
    }


def _git_commit(root: Path) -> str | None:
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "describe", "--always", "--abbrev=12")
        # `describe --dirty` would write the index, and a process that is killed then would leave its lock.
        changed = _git(root, "--no-optional-locks", "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-dirty" if changed else commit


def _git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
