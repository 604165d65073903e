"""Reading of Zstandard files: by Python itself from version 3.14 on, else by the package zstandard."""

from __future__ import annotations

import io
from importlib import import_module
from typing import Any

from vqlab.errors import InputError

MAGIC = b"\x28\xb5\x2f\xfd"


def open_zstandard(raw: io.BufferedIOBase, name: str) -> io.BufferedReader:
    """Open the content of a Zstandard file; going back in it reads it again from the beginning.

    Args:
        raw: the file.
        name: name of the file, for messages.

    Returns:
        The content; reading it raises OSError or EOFError if it is damaged or cut short.

    Raises:
        InputError: if neither Python nor an installed package reads such files.
    """
    try:
        return io.BufferedReader(import_module("compression.zstd").ZstdFile(raw))
    except ImportError:
        pass
    try:
        return io.BufferedReader(_Reader(raw, import_module("zstandard")), 1 << 18)
    except ImportError:
        raise InputError(f"{name}: needs the package zstandard; install it with `pip install zstandard`") from None


class _Reader(io.RawIOBase):
    """The content of a Zstandard file as a stream that can go back."""

    def __init__(self, raw: io.BufferedIOBase, package: Any) -> None:
        self._raw, self._package, self._position = raw, package, 0
        self._rewind()

    def _rewind(self) -> None:
        self._raw.seek(0)
        self._decompressor: Any = None
        self._decompressed, self._position = b"", 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        while not self._decompressed:
            if not self._decompress():
                return 0
        part, self._decompressed = self._decompressed[: len(buffer)], self._decompressed[len(buffer) :]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def _decompress(self) -> bool:
        """Decompress the next piece; False at the end."""
        unused = self._decompressor.unused_data if self._decompressor and self._decompressor.eof else b""
        piece = unused or self._raw.read(1 << 16)
        if not piece:
            if self._decompressor and not self._decompressor.eof:
                raise EOFError("compressed data are cut short")
            return False
        if self._decompressor is None or self._decompressor.eof:
            self._decompressor = self._package.ZstdDecompressor().decompressobj()
        try:
            self._decompressed = self._decompressor.decompress(piece)
        except self._package.ZstdError as error:
            raise OSError(str(error)) from None
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            while self.read(1 << 18):
                pass
            offset += self._position
        target = offset + (self._position if whence == io.SEEK_CUR else 0)
        if target < self._position:
            self._rewind()
        while self._position < target and self.read(min(1 << 18, target - self._position)):
            pass
        return self._position
