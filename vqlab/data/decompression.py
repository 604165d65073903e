"""Compressed files as streams that stop where the content is out of proportion to the file."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from typing import Any

from vqlab.data.files import MAX_BYTES
from vqlab.data.zstandard import MAGIC as ZSTANDARD_MAGIC
from vqlab.data.zstandard import open_zstandard

# Files of images compress some 20 times, black-and-white shapes 100; zeros compress 1,000 times and more.
MAX_RATIO = 200


def open_decompressed(raw: io.BufferedIOBase, name: str) -> io.BufferedIOBase:
    """Open the content of a file that may be compressed; its first bytes tell how.

    Args:
        raw: the file, at its beginning.
        name: name of the file, for messages.

    Returns:
        The content; ``raw`` itself if it is not compressed. Reading raises OSError, EOFError, zlib.error or LZMAError
        if it is damaged, its checksum differs, or its content is larger than 200 MB and 200 times the file.

    Raises:
        InputError: if the package for Zstandard is not installed.
    """
    start = raw.read(6)
    raw.seek(0)
    openers: dict[bytes, Callable[[], Any]] = {
        b"\x1f\x8b": lambda: gzip.GzipFile(fileobj=raw),
        b"BZh": lambda: bz2.BZ2File(raw),
        b"\xfd7zXZ\x00": lambda: lzma.LZMAFile(raw),  # type: ignore[arg-type]  # noqa: SIM115  # the stream is handed on
        ZSTANDARD_MAGIC: lambda: open_zstandard(raw, name),
    }
    opened = next((opener for magic, opener in openers.items() if start.startswith(magic)), None)
    return raw if opened is None else io.BufferedReader(_InProportion(opened(), raw), 1 << 18)


class _InProportion(io.RawIOBase):
    """A decompressed stream whose position stays in proportion to the position in the compressed file."""

    def __init__(self, content: io.BufferedIOBase, raw: io.BufferedIOBase) -> None:
        self._content, self._raw = content, raw

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._content.tell()

    def readinto(self, buffer: Any) -> int:
        count = self._content.readinto(buffer)
        if self._content.tell() > MAX_BYTES + MAX_RATIO * self._raw.tell():
            raise OSError(f"the content is more than {MAX_RATIO} times the file")
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        target = offset + (self._content.tell() if whence == io.SEEK_CUR else 0)
        if whence == io.SEEK_END or target < self._content.tell():
            return self._content.seek(offset, whence)
        piece = bytearray(1 << 18)
        while (left := target - self._content.tell()) > 0:
            if not self.readinto(memoryview(piece)[: min(left, len(piece))]):
                break
        return self._content.tell()
