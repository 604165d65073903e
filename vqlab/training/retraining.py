"""Earlier Runs of a Config: found under an earlier spelling of their path, or set aside to train again."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from vqlab.config import Config
from vqlab.errors import ChangedDataError
from vqlab.training.run_folder import RunFolder
from vqlab.training.run_lock import untrained


def find_run(root: Path, config: Config) -> Config:
    """Find the Config of an existing Run, also of one whose path version 0.1 stored as it was typed.

    Args:
        root: the folder of all Runs.
        config: the Config to train.

    Returns:
        ``config``, or the same Config with the spelling of the path that an existing Run has.
    """
    if (root / config.id).exists():
        return config
    earlier = (spelling for spelling in config.earlier_spellings() if (root / spelling.id / "config.json").is_file())
    return next(earlier, config)


def set_aside(folder: Path) -> Path | None:
    """Rename the folder of a Run, so that its Config can be trained again and nothing is lost.

    Args:
        folder: the folder of a Run; it may not exist.

    Returns:
        The new folder, ``ID-FINGERPRINT`` of its images, with a number if that exists; None without a Run.

    Raises:
        WorkError: if another thread or process is training the Run.
    """
    if not (folder / "config.json").is_file():
        return None
    with untrained(folder):
        stored = RunFolder.open(folder).provenance
        name = f"{folder.name}-{stored.get('data_fingerprint', 'earlier')}"
        names = (name if number == 1 else f"{name}-{number}" for number in count(1))
        target = next(path for path in map(folder.with_name, names) if not path.exists())
        folder.rename(target)
    (target / ".lock").unlink(missing_ok=True)
    return target


def images_changed(folder: Path) -> bool:
    """Find out whether the images of a Run have changed since its training.

    Args:
        folder: the folder of a Run; it may not exist.

    Returns:
        True if they can be read and differ.
    """
    try:
        if (folder / "config.json").is_file():
            RunFolder.open(folder).check_data()
    except ChangedDataError:
        return True
    return False
