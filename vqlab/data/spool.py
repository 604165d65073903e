"""Pixels in the order in which they are read, in memory or in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8


class CacheWriteError(OSError):
    """The file of a spool cannot be written, as on a full disk."""


class Spool:
    """Collects images one after the other.

    Args:
        path: the file to write; None to keep the images in memory.
    """

    def __init__(self, path: Path | None) -> None:
        self._path, self._kept, self._count = path, list[UInt8[np.ndarray, "C H W"]](), 0
        self._shape: tuple[int, ...] = ()
        self._file = path.open("wb") if path else None

    @property
    def on_disk(self) -> bool:
        """Whether the images go to a file."""
        return self._path is not None

    def add(self, images: list[UInt8[np.ndarray, "C H W"]]) -> None:
        """Add images of one size.

        Args:
            images: the images.

        Raises:
            CacheWriteError: if the file cannot be written.
        """
        self._count += len(images)
        if self._file is None:
            self._kept += images
        elif images:
            self._shape = images[0].shape
            try:
                self._file.write(np.stack(images).data)
            except OSError as error:
                raise CacheWriteError(*error.args) from None

    def pixels(self) -> UInt8[np.ndarray, "N C H W"]:
        """Finish the collection.

        Returns:
            All images, mapped from the file if there is one.

        Raises:
            CacheWriteError: if the file cannot be written.
        """
        if self._file is None:
            kept, self._kept = self._kept, []  # freed when the stack is returned
            return np.stack(kept) if kept else np.empty((0, 3, 1, 1), np.uint8)
        try:
            self._file.close()
        except OSError as error:
            raise CacheWriteError(*error.args) from None
        assert self._path is not None
        if not self._count:
            return np.empty((0, 3, 1, 1), np.uint8)
        return np.memmap(self._path, np.uint8, "r", shape=(self._count, *self._shape))

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError:
                return
