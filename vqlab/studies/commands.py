"""A Config as the command that trains it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from vqlab.config import PROFILES, Config


def train_command(config: Config) -> str:
    """The shortest ``vqlab train`` command for ``config``: the nearest profile and what differs from it."""
    return min((_command(config, profile) for profile in PROFILES), key=len)


def _command(config: Config, profile: str) -> str:
    source = config.data.source
    near = _flat(Config.profile(profile, **{"data.source": source, "seed": config.seed}).model_dump())
    changes = {key: value for key, value in _flat(config.model_dump()).items() if near[key] != value}
    words = ["vqlab", "train", "--profile", profile, "--data", source, "--seed", str(config.seed)]
    for key, value in changes.items():
        words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join(words)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
