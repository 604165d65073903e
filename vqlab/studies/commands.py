"""The command line that trains a Config."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from vqlab.config import PROFILES, Config


def train_command(config: Config) -> str:
    """Write the shortest ``vqlab train`` command for a Config.

    Args:
        config: the Config.

    Returns:
        The command, quoted for a shell: the profile with the fewest differences and ``--set`` for each difference.

    Example:
        >>> train_command(Config.profile("paper", **{"quantizer.beta": 0.5}))
        'vqlab train --profile paper --data photos --seed 0 --set quantizer.beta=0.5'
    """
    return min((_profile_command(config, profile) for profile in PROFILES), key=len)


def _profile_command(config: Config, profile: str) -> str:
    source = config.data.source
    base = _flatten(Config.profile(profile, **{"data.source": source, "seed": config.seed}).model_dump())
    changes = {key: value for key, value in _flatten(config.model_dump()).items() if base[key] != value}
    words = ["vqlab", "train", "--profile", profile, "--data", source, "--seed", str(config.seed)]
    for key, value in changes.items():
        words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join(words)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
