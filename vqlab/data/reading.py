"""The images of a source, read into a spool, and arranged by part and class."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np

from vqlab.config import DataConfig
from vqlab.data.decode_batch import Fitting
from vqlab.data.decoding import decode_files
from vqlab.data.files import ImageSource, ReadPosition
from vqlab.data.layout import Place, find_places
from vqlab.data.parts import complete_parts
from vqlab.data.progress import reading_progress
from vqlab.data.spool import Spool
from vqlab.data.stored_images import PARTS, Order, StoredImages
from vqlab.errors import InputError, WorkError

_NO_CLASS = "images"


def display_name(source: Path) -> str:
    """Name a source for tables and figures.

    Args:
        source: its path.

    Returns:
        The name of the file or folder.
    """
    if source.name.startswith("cifar10-jpeg"):
        return "CIFAR-10 (JPEG copy)"
    return source.name or source.resolve().name


def read_files(source: Path, listed: ImageSource, config: DataConfig, spool: Spool) -> None:
    """Read the images that a spool does not have yet, in their order.

    Args:
        source: path of the source.
        listed: its files.
        config: size and channels of an image, ``fit`` and ``on_broken``.
        spool: collects the images.

    Raises:
        InputError: if the source is damaged, or an image cannot be read.
        CacheWriteError: if the files of the spool cannot be written.
        MemoryError: if the images are larger than the limit of the spool.
    """
    position, files, name = ReadPosition(), spool.files, display_name(source)
    if files.skipped and config.on_broken == "refuse":
        raise unreadable(config, files.skipped[0][1])
    if len(files):
        print(f"{name}: goes on after {len(files):,} images that an earlier process read", file=sys.stderr, flush=True)
    with reading_progress(name) as report:
        unread = islice(listed.files(position), len(files), None)
        for batch in decode_files(unread, Fitting.of(config)):
            if batch.broken and config.on_broken == "refuse":
                raise unreadable(config, batch.broken[0][1])
            spool.add(batch)
            report(len(files.names), position.share)


def unreadable(config: DataConfig, message: str) -> WorkError:
    """Word the error for an unreadable image.

    Args:
        config: the source.
        message: the file and what is wrong with it.

    Returns:
        One line with the remedy.
    """
    return WorkError(f"data.source={config.source}: {message}; fix or remove the file, or set data.on_broken=skip")


def arrange(spool: Spool, config: DataConfig) -> tuple[StoredImages, Order]:
    """Find part and class of each image.

    Args:
        spool: all images of a source.
        config: the source.

    Returns:
        The images, pixels and labels in the order of reading, and the rows of each part.

    Raises:
        InputError: if there are no training or no test images.
    """
    files = spool.files
    rows = {name: row for row, name in enumerate(files.names)}
    places, notes = complete_parts(find_places(list(rows)))
    _check_parts(places, config)
    labels, class_names, order = _label(places, rows, len(files.names))
    pixels, uncropped = spool.finish()
    return StoredImages(
        pixels, labels, {}, class_names, files.skipped, [*notes, *_fit_notes(files.fitted, config)],
        dict(files.sizes.most_common()), dict(files.modes.most_common()), uncropped=uncropped,
    ), order  # fmt: skip


def _label(places: list[Place], rows: dict[str, int], count: int) -> tuple[np.ndarray, list[str], Order]:
    """Label of each row, names of the classes, and the rows of each part sorted by name."""
    class_names = sorted({place.class_name or _NO_CLASS for place in places})
    label_of = {name: label for label, name in enumerate(class_names)}
    labels, order = np.zeros(count, np.int64), {part: list[int]() for part in PARTS}
    for place in places:
        row = rows[place.name]
        labels[row] = label_of[place.class_name or _NO_CLASS]
        order[place.part or "train"].append(row)
    return labels, class_names, {part: np.array(found, np.int64) for part, found in order.items()}


def _check_parts(places: list[Place], config: DataConfig) -> None:
    for part in ("train", "test"):
        if not any(place.part == part for place in places):
            raise InputError(
                f"data.source={config.source}: no images in {part}/; provide train/ and test/, folders of classes, or "
                "a folder of images"
            )


def _fit_notes(fitted: Counter[str], config: DataConfig) -> list[str]:
    if not fitted:
        return []
    sizes = ", ".join(f"{count} of {size}" for size, count in fitted.most_common(3))
    more = f" and {len(fitted) - 3} other sizes" if len(fitted) > 3 else ""
    _, height, width = config.shape
    return [f"images of another size than {width}x{height}: {fitted.total()} ({sizes}{more}); data.fit={config.fit}"]
