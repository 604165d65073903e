"""Checksums of PNG files, which Pillow does not compare for the pixels."""

from __future__ import annotations

import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def damaged_chunk(content: bytes) -> str | None:
    r"""Find the first chunk of a PNG file whose CRC-32 differs, or that is cut short.

    Source: PNG Specification, Third Edition, 2025, section 5.

    Args:
        content: the bytes of a file.

    Returns:
        The type of the chunk; None if all chunks up to IEND are whole, or the file is no PNG.

    Example:
        >>> damaged_chunk(_SIGNATURE + b"\0\0\0\0IEND\xae\x42\x60\x82")
        >>> damaged_chunk(_SIGNATURE + b"\0\0\0\0IEND\xae\x42\x60\x83")
        'IEND'
    """
    if not content.startswith(_SIGNATURE):
        return None
    view, start, kind = memoryview(content), len(_SIGNATURE), b""
    while kind != b"IEND":
        length, kind = int.from_bytes(view[start : start + 4], "big"), bytes(view[start + 4 : start + 8])
        stop = start + 8 + length
        if stop + 4 > len(view) or zlib.crc32(view[start + 4 : stop]) != int.from_bytes(view[stop : stop + 4], "big"):
            return kind.decode("ascii", "backslashreplace") or "IEND"
        start = stop + 4
    return None
