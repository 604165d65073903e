"""Where a run's numbers come from."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("vqlab", "torch", "torchvision", "numpy", "piq", "safetensors")


def collect_provenance(device: str, seed: int, fingerprint: str) -> dict[str, Any]:
    """Package versions, Python, git state of the package's checkout, device, threads, seed, data fingerprint."""
    return {
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "git": _git_state(),
        "device": device,
        "threads": torch.get_num_threads(),
        "seed": seed,
        "data_fingerprint": fingerprint,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git_state() -> str | None:
    """Commit of the checkout this code runs from, '-dirty' behind it if changed; None outside of one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
