"""What is read of a source, in the order of reading: in memory, or in files with which a later process goes on."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from io import BufferedRandom
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vqlab.data.decode_batch import DecodedBatch, Fitting
from vqlab.data.uncropped import UncroppedImages

SPOOLED = PIXELS, UNCROPPED, PROGRESS = "pixels.bin", "uncropped.bin", "progress.jsonl"
# What is lost if the process is killed.
_SYNC_BYTES, _SYNC_SECONDS = 64 << 20, 5.0


class CacheWriteError(OSError):
    """The files of a spool cannot be written, as on a full disk."""


class ReadFiles:
    """What is known of the files that are read.

    Attributes:
        names: names of the readable files.
        skipped: name and message of each unreadable file.
        sizes: number of files by ``WIDTHxHEIGHT``.
        modes: number of files by Pillow's mode.
        fitted: number of images by size before they were fitted, of those that had another size.
        shapes: height and width of each uncropped image.
        area: sum of their products.
    """

    def __init__(self) -> None:
        self.names, self.skipped, self.shapes = list[str](), list[tuple[str, str]](), list[tuple[int, int]]()
        self.sizes, self.modes, self.fitted = Counter[str](), Counter[str](), Counter[str]()
        self.area = 0

    def __len__(self) -> int:
        return len(self.names) + len(self.skipped)

    def add(self, record: dict[str, Any]) -> None:
        """Add what ``DecodedBatch.record`` holds.

        Args:
            record: the values.
        """
        self.names += record["names"]
        self.skipped += [(name, message) for name, message in record["broken"]]
        self.shapes += [(height, width) for height, width in record["uncropped"]]
        self.area += sum(height * width for height, width in record["uncropped"])
        for counter, name in ((self.sizes, "sizes"), (self.modes, "modes"), (self.fitted, "fitted")):
            counter.update(record[name])


class Spool:
    """Collects images one after the other.

    In a folder, the pixels go to two files, and what is known of them to a third one, each time after the pixels have
    reached the disk. A spool that is opened in the folder of a killed process has what that had collected.

    Args:
        fitting: size and channels of an image.
        folder: the folder of the files; None to keep the images in memory.
        limit: largest size of the pixels, bytes; None: no limit.

    Attributes:
        files: what is known of the files that are read.

    Raises:
        CacheWriteError: if the files cannot be opened.
    """

    def __init__(self, fitting: Fitting, folder: Path | None = None, limit: int | None = None) -> None:
        self.files, self._fitting, self._limit = ReadFiles(), fitting, limit
        self._kept, self._kept_uncropped = list[UInt8[np.ndarray, "C H W"]](), list[UInt8[np.ndarray, "C h w"]]()
        try:
            self._writer = None if folder is None else _Writer(folder, fitting, self.files)
        except OSError as error:
            raise CacheWriteError(*error.args) from None

    def add(self, batch: DecodedBatch) -> None:
        """Add the images of some files.

        Args:
            batch: the images.

        Raises:
            CacheWriteError: if the files cannot be written.
            MemoryError: if the pixels are larger than ``limit``.
        """
        record = batch.record()
        self.files.add(record)
        if self._limit is not None and sum(_lengths(self.files, self._fitting)) > self._limit:
            raise MemoryError
        if self._writer is None:
            self._kept += batch.pixels
            self._kept_uncropped += batch.uncropped
            return
        try:
            self._writer.add(batch, record)
        except OSError as error:
            raise CacheWriteError(*error.args) from None

    def finish(self) -> tuple[UInt8[np.ndarray, "N C H W"], UncroppedImages | None]:
        """Give all images, after ``close``.

        Returns:
            All images, mapped from the files if there are some; and the uncropped ones, if they are kept.
        """
        if self._writer is None:
            # Freed when the arrays are returned.
            kept, self._kept = self._kept, []
            uncropped, self._kept_uncropped = self._kept_uncropped, []
            pixels = np.stack(kept) if kept else np.empty((0, 3, 1, 1), np.uint8)
            buffer = np.concatenate([image.ravel() for image in uncropped]) if uncropped else np.empty(0, np.uint8)
        else:
            pixels, buffer = (_mapped(path) for path in self._writer.paths)
            pixels = pixels.reshape(-1, self._fitting.channels, self._fitting.height, self._fitting.width)
        if not self._fitting.uncropped:
            return pixels, None
        return pixels, UncroppedImages(buffer, _places(self.files, self._fitting), self._fitting.channels)

    def close(self) -> None:
        """Bring all to the disk and close the files, if there are some.

        Raises:
            CacheWriteError: if the files cannot be written.
        """
        if self._writer is not None:
            try:
                self._writer.close()
            except OSError as error:
                raise CacheWriteError(*error.args) from None


class _Writer:
    """The files of a spool; those of a killed process are cut to what its progress file says."""

    def __init__(self, folder: Path, fitting: Fitting, files: ReadFiles) -> None:
        self.paths = folder / PIXELS, folder / UNCROPPED
        self._pixels, self._uncropped, self._progress = (_open(folder / name) for name in SPOOLED)
        self._lines, self._waiting, self._synchronized = list[bytes](), 0, time.monotonic()
        valid = 0
        for line in self._progress:
            if not _add_line(line, files, fitting, [os.path.getsize(path) for path in self.paths]):
                break
            valid += len(line)
        lengths = (*_lengths(files, fitting), valid)
        for file, length in zip((self._pixels, self._uncropped, self._progress), lengths, strict=True):
            file.truncate(length)
            file.seek(length)

    def add(self, batch: DecodedBatch, record: dict[str, Any]) -> None:
        for file, images in ((self._pixels, batch.pixels), (self._uncropped, batch.uncropped)):
            for image in images:
                file.write(image.data)
                self._waiting += image.nbytes
        self._lines.append(json.dumps(record).encode() + b"\n")
        if self._waiting >= _SYNC_BYTES or time.monotonic() - self._synchronized >= _SYNC_SECONDS:
            self.synchronize()

    def synchronize(self) -> None:
        """Bring the pixels to the disk, then the lines that count them."""
        for file in (self._pixels, self._uncropped):
            file.flush()
            os.fsync(file.fileno())
        self._progress.writelines(self._lines)
        self._progress.flush()
        os.fsync(self._progress.fileno())
        self._lines, self._waiting, self._synchronized = [], 0, time.monotonic()

    def close(self) -> None:
        with self._pixels, self._uncropped, self._progress:
            self.synchronize()


def _open(path: Path) -> BufferedRandom:
    return path.open("r+b" if path.exists() else "w+b")


def _add_line(line: bytes, files: ReadFiles, fitting: Fitting, available: list[int]) -> bool:
    """Add a line of the progress file, if it is whole and its pixels are there."""
    try:
        record, counted = json.loads(line), ReadFiles()
        counted.add(record)
    except (ValueError, KeyError, TypeError):
        return False
    lengths = [sum(pair) for pair in zip(_lengths(files, fitting), _lengths(counted, fitting), strict=True)]
    if not line.endswith(b"\n") or any(length > size for length, size in zip(lengths, available, strict=True)):
        return False
    files.add(record)
    return True


def _lengths(files: ReadFiles, fitting: Fitting) -> tuple[int, int]:
    """Bytes of the pixels, and of those of the uncropped images."""
    return len(files.names) * fitting.channels * fitting.height * fitting.width, fitting.channels * files.area


def _places(files: ReadFiles, fitting: Fitting) -> np.ndarray:
    shapes = np.array(files.shapes, np.int64).reshape(-1, 2)
    lengths = fitting.channels * shapes.prod(1)
    return np.concatenate([(lengths.cumsum() - lengths)[:, None], shapes], 1)


def _mapped(path: Path) -> np.ndarray:
    return np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)
