"""Decoded images in the cache folder: written whole, mapped into memory, shared by processes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from jaxtyping import UInt8

from vqlab.data.cache import cache_folder
from vqlab.data.spool import PIXELS, PROGRESS, SPOOLED, UNCROPPED
from vqlab.data.stored_images import PARTS, Order, StoredImages
from vqlab.data.uncropped import UncroppedImages
from vqlab.files import TEMPORARY_ENDING, acquire_lock, check_format, synchronize

# Part of every key; to be raised when the same files give other pixels.
VERSION = 3
# Of the files of an entry, stored in its index.
FORMAT_VERSION = 1
_LABELS, _PLACES, _INDEX = "labels.npy", "places.npy", "index.json"
_ORDERED = "ordered-"
_CHUNK_BYTES = 16 << 20
_EARLIER = re.compile(r"[0-9a-f]{16}\.npz")


def image_cache_folder() -> Path:
    """Return the folder of decoded images.

    Returns:
        ``images`` in the cache folder; it may not exist.
    """
    return cache_folder() / "images"


class CacheEntry:
    """A set of decoded images in the cache: a folder with pixels, labels and what is known of them.

    Args:
        folder: the folder of the entry, ``SOURCE-CONTENT`` or ``SOURCE-CONTENT-SELECTION`` in the folder of the cache.

    Attributes:
        folder: the folder of the entry; it exists if it is complete.
        unfinished: the folder where it is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.unfinished = folder, folder.with_name(folder.name + TEMPORARY_ENDING)

    @classmethod
    def of(cls, source: str, content: str) -> CacheEntry:
        """Name the entry of a source.

        Args:
            source: path of the images and how they are fitted; a later entry of the same source replaces this one.
            content: everything that the pixels depend on.

        Returns:
            The entry, which may not exist.
        """
        return cls(image_cache_folder() / f"{_digest(source)}-{_digest(content)}")

    def read(self, budget: int) -> StoredImages | None:
        """Open the entry.

        Args:
            budget: size of the pixels, bytes, up to which they are read; larger ones are mapped.

        Returns:
            The images; None if there is no whole entry.

        Raises:
            WorkError: if a newer version of vqlab wrote it.
        """
        try:
            index = json.loads((self.folder / _INDEX).read_text())
            found = index.get("format")
        except (OSError, ValueError, AttributeError):
            return None
        check_format(str(self.folder / _INDEX), found, FORMAT_VERSION, "remove it with `vqlab data --clear`")
        try:
            shape = tuple(index.pop("shape"))
            sizes = {PIXELS: int(np.prod(shape)), **({UNCROPPED: index["uncropped"]} if "uncropped" in index else {})}
            if any((self.folder / name).stat().st_size != size for name, size in sizes.items()):
                return None
            mapped = sum(sizes.values()) > budget
            pixels = _read_bytes(self.folder / PIXELS, mapped=mapped).reshape(shape)
            labels = np.load(self.folder / _LABELS, allow_pickle=False)
            uncropped = self._read_uncropped(shape[1], mapped=mapped) if UNCROPPED in sizes else None
            return StoredImages.from_index(pixels, labels, index, self.folder if mapped else None, uncropped)
        except (OSError, ValueError, KeyError, TypeError, EOFError):
            return None

    def _read_uncropped(self, channels: int, *, mapped: bool) -> UncroppedImages:
        places = np.load(self.folder / _PLACES, allow_pickle=False)
        return UncroppedImages(_read_bytes(self.folder / UNCROPPED, mapped=mapped), places, channels)

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Keep other threads and processes from writing the entry during the ``with`` block; they wait and say so.

        Args:
            name: name of the source, for the line.

        Yields:
            Nothing.

        Raises:
            OSError: if the cache folder cannot be written.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        path = self.folder.with_name(self.folder.name + ".lock")
        lock = FileLock(path)
        acquire_lock(lock, f"{name}: another process is reading these images; waiting for it")
        try:
            yield
        finally:
            lock.release()
            # Every caller that still waits, or comes later, sees a whole entry: the file is no longer needed.
            if self.folder.exists():
                with suppress(OSError):
                    path.unlink()

    def start(self, *, keep: bool = False) -> Path:
        """Make the folder that ``finish`` turns into the entry.

        Args:
            keep: whether the files of a ``Spool`` that a killed process left there stay. Default False: the folder is
                empty.

        Returns:
            The folder.
        """
        if not (keep and (self.unfinished / PROGRESS).exists()):
            shutil.rmtree(self.unfinished, ignore_errors=True)
        self.unfinished.mkdir(exist_ok=True)
        for path in self.unfinished.iterdir():
            if path.name not in SPOOLED:
                path.unlink()
        return self.unfinished

    def finish(self, stored: StoredImages, order: Order) -> None:
        """Write the images into the folder of ``start`` and give it its name, after all of it is on the disk.

        Args:
            stored: what is known of the images; its pixels in any order, those of a ``Spool`` in this folder or others.
            order: rows of the pixels in each part, in the order in which they are to be stored.

        Raises:
            OSError: if the disk is full.
        """
        rows = np.concatenate([order[part] for part in _stored_order(order)])
        spooled = (self.unfinished / PROGRESS).exists() and _counts_up(rows, len(stored.pixels))
        pixels = self.unfinished / (PIXELS if spooled else _ORDERED + PIXELS)
        if not spooled:
            _write_rows(stored.pixels, rows, pixels)
        if stored.uncropped is not None:
            stored = self._write_uncropped(stored, stored.uncropped, rows, order)
        self._write_index(stored, order, pixels, (len(rows), *stored.pixels.shape[1:]))
        for path in self.unfinished.iterdir():
            synchronize(path)
        # Without it, what is spooled is not used again, so that it may be replaced.
        (self.unfinished / PROGRESS).unlink(missing_ok=True)
        for name in (PIXELS, UNCROPPED):
            if (self.unfinished / (_ORDERED + name)).exists():
                os.replace(self.unfinished / (_ORDERED + name), self.unfinished / name)
        if stored.uncropped is None:
            (self.unfinished / UNCROPPED).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        synchronize(self.unfinished)
        self.unfinished.rename(self.folder)
        synchronize(self.folder.parent)
        self._remove_earlier()

    def _write_uncropped(
        self, stored: StoredImages, uncropped: UncroppedImages, rows: np.ndarray, order: Order
    ) -> StoredImages:
        """Write those of the training images; the others are not cropped at random."""
        is_train, places, offset = np.isin(rows, order["train"]), np.zeros((len(rows), 3), np.int64), 0
        path = self.unfinished / (_ORDERED + UNCROPPED)
        with path.open("wb") as file:
            for target in np.flatnonzero(is_train).tolist():
                image = uncropped.image(int(rows[target]))
                places[target] = offset, *image.shape[1:]
                offset += file.write(image.data)
        np.save(self.unfinished / _PLACES, places, allow_pickle=False)
        written = UncroppedImages(_read_bytes(path, mapped=True), places, uncropped.channels)
        return replace(stored, uncropped=written)

    def _write_index(self, stored: StoredImages, order: Order, path: Path, shape: tuple[int, ...]) -> None:
        labels, starts, position = [], {}, 0
        for part in _stored_order(order):
            labels.append(stored.labels[order[part]])
            starts[part] = [position, position + len(order[part])]
            position += len(order[part])
        np.save(self.unfinished / _LABELS, np.concatenate(labels), allow_pickle=False)
        index = {"format": FORMAT_VERSION, **stored.index(), "parts": {part: starts[part] for part in PARTS}}
        pixels = _read_bytes(path, mapped=True).reshape(shape)
        written = StoredImages.from_index(pixels, np.concatenate(labels), index, None, stored.uncropped)
        index["fingerprint"] = written.to_data("").fingerprint
        if stored.uncropped is not None:
            index["uncropped"] = len(stored.uncropped.buffer)
        (self.unfinished / _INDEX).write_text(json.dumps({**index, "shape": shape}))

    def _remove_earlier(self) -> None:
        """Remove entries of the same source with another content; processes that have mapped them keep them."""
        source, content = self.folder.name.split("-")[:2]
        for folder in self.folder.parent.glob(f"{source}-*"):
            if folder.is_dir() and folder.name.split("-")[1].removesuffix(TEMPORARY_ENDING) != content:
                _remove_unlocked(folder)

    def discard(self) -> None:
        """Remove the folder of ``start``."""
        shutil.rmtree(self.unfinished, ignore_errors=True)

    @property
    def size(self) -> int:
        """Bytes of the entry on the disk."""
        return _folder_size(self.folder)


def clear_image_cache() -> tuple[int, int]:
    """Remove all decoded images from the cache folder, but those that another process is writing.

    Returns:
        Number of sets, and bytes that they took.

    Raises:
        OSError: if the cache folder cannot be read.
    """
    removed, size = 0, 0
    folders = [path for path in _listed(image_cache_folder()) if "-" in path.name and path.is_dir()]
    for folder in folders:
        taken = _folder_size(folder)
        if _remove_unlocked(folder):
            removed, size = removed + 1, size + taken
    for path in _listed(cache_folder()):
        if _EARLIER.fullmatch(path.name):  # archives that version 0.1 stored
            size += path.stat().st_size
            path.unlink()
            removed += 1
    return removed, size


def _listed(folder: Path) -> list[Path]:
    """What a folder holds; a missing one holds nothing, and one that may not be read is an error."""
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def _remove_unlocked(folder: Path) -> bool:
    """Remove a set of decoded images, unless a process is writing it."""
    lock = FileLock(folder.with_name(folder.name.removesuffix(TEMPORARY_ENDING) + ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    shutil.rmtree(folder, ignore_errors=True)
    lock.release()
    with suppress(OSError):
        os.unlink(lock.lock_file)
    return True


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:12]


def _stored_order(order: Order) -> list[str]:
    """Parts in the order of their first rows, so that images that are read by part need not be moved."""
    return sorted(PARTS, key=lambda part: int(order[part][0]) if len(order[part]) else -1)


def _counts_up(rows: np.ndarray, count: int) -> bool:
    return len(rows) == count and bool((rows == np.arange(count)).all())


def _read_bytes(path: Path, *, mapped: bool) -> UInt8[np.ndarray, " bytes"]:
    if not mapped or not path.stat().st_size:
        return np.fromfile(path, np.uint8)
    return np.asarray(np.memmap(path, np.uint8, "r"))


def _write_rows(pixels: np.ndarray, rows: np.ndarray, path: Path) -> None:
    step = max(1, _CHUNK_BYTES // int(np.prod(pixels.shape[1:])))
    with path.open("wb") as file:
        for start in range(0, len(rows), step):
            file.write(pixels[rows[start : start + step]].data)


def _folder_size(folder: Path) -> int:
    with suppress(OSError):
        return sum(path.stat().st_size for path in folder.iterdir())
    return 0
