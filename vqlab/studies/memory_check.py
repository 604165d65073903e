"""The memory of many trainings, compared with that of the machine before the first one begins."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from vqlab.config import Config
from vqlab.data import load_data
from vqlab.errors import InputError
from vqlab.training.device import find_device
from vqlab.training.memory_estimate import ImageCounts, check_memory, estimate_memory
from vqlab.training.run import is_finished


def check_points(points: Mapping[str, Config], root: Path, device: str | None) -> None:
    """Refuse trainings of which one needs more memory than the machine, or the accelerator, has.

    Finished Runs are passed over, and so are Configs whose images cannot be read or whose model cannot be built, as
    without an optional package: their own training tells why.

    Args:
        points: the Configs, by what they are called in the message.
        root: the folder of the Runs.
        device: the torch device that trains; None selects it as ``train`` does.

    Raises:
        InputError: if the device is not available, or one Config needs more memory; the message names the one that
            needs the most.
    """
    device = find_device(device)
    unfinished = {name: config for name, config in points.items() if not is_finished(root, config)}
    sets = {config.data.model_dump_json(): config for config in unfinished.values()}
    counts = {key: _count(config) for key, config in sets.items()}
    needed = [
        (total, name, stage, known)
        for name, config in unfinished.items()
        if (known := counts[config.data.model_dump_json()])
        for stage in _stages(config)
        if (total := _estimate(stage, device, known)) is not None
    ]
    if needed:
        _, name, config, known = max(needed, key=lambda row: row[0])
        check_memory(config, device, known, f"{name}: ")


def _stages(config: Config) -> tuple[Config, ...]:
    """What is trained: a prior after its VQ-VAE."""
    return (config,) if config.prior.kind == "none" else (config.codec(), config)


def _estimate(config: Config, device: str, known: ImageCounts) -> int | None:
    with suppress(InputError):
        return estimate_memory(config, device, *known).total
    return None


def _count(config: Config) -> ImageCounts | None:
    with suppress(InputError):
        return ImageCounts.of(load_data(config.data))
    return None
