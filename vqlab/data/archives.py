"""The image files of archives, read to their end, with every checksum and end mark compared."""

from __future__ import annotations

import io
import posixpath
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Self

from vqlab.data.decompression import open_decompressed
from vqlab.data.files import MAX_BYTES, File, ImageSource, ReadPosition, file_stamp, printable
from vqlab.data.layout import is_image_name
from vqlab.errors import InputError, WorkError

# Longer names are no names: a header of this kind is read into memory whole.
_MAX_HEADER_BYTES = 1_000_000
# A header and a content, compressed, take more; empty files that are all alike take two bytes.
_MIN_MEMBER_BYTES, _FREE_MEMBERS = 16, 100_000
_BLOCK = 512
_CHUNK = 1 << 20
# Types of tar members whose content is read as part of the header of the next.
_HEADER_TYPES = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip


def list_archive(source: Path) -> ImageSource:
    """List the images of an archive; name, kind and size of a member are looked at before its content.

    Args:
        source: a .zip or .tar file, or a .tar compressed with gzip, bzip2, xz or Zstandard; its content tells which.

    Returns:
        The files whose names are those of images. Iterating raises InputError if the archive is damaged, cut short or
        encrypted, or has anything after its end.
    """
    return ImageSource((file_stamp(source),), partial(_zip_files if zipfile.is_zipfile(source) else _tar_files, source))


def _zip_files(source: Path, position: ReadPosition) -> Iterator[File]:
    with _damage_named(source), zipfile.ZipFile(source) as archive:
        members = archive.infolist()
        for number, member in enumerate(members, 1):
            position.share = number / len(members)
            if member.is_dir() or not is_image_name(member.filename):
                continue
            if member.flag_bits & 1:
                raise InputError(f"data.source=folder:{source.name}: is encrypted; unpack it first")
            yield File(printable(member.filename), None if member.file_size > MAX_BYTES else archive.read(member))


def _tar_files(source: Path, position: ReadPosition) -> Iterator[File]:
    size = source.stat().st_size
    with _damage_named(source), source.open("rb") as raw:
        stream = open_decompressed(raw, f"data.source=folder:{source.name}")
        with tarfile.open(fileobj=stream, mode="r:", tarinfo=_Member) as archive:
            files = dict[str, tarfile.TarInfo]()
            for number, member in enumerate(archive):
                position.share = raw.tell() / size
                if number > _FREE_MEMBERS + raw.tell() // _MIN_MEMBER_BYTES:
                    raise tarfile.ReadError("more files than its size can hold")
                # Hard links are files, too. tarfile would read all headers to the end to find the target of one.
                if member.isfile() or member.islnk():
                    file = files[posixpath.normpath(member.linkname)] if member.islnk() else member
                    files[posixpath.normpath(member.name)] = file
                    if is_image_name(member.name):
                        yield File(printable(member.name), _member_content(archive, file))
            _check_end(stream)


def _member_content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | None:
    """The content of a file; None if it is too large."""
    file = archive.extractfile(member) if member.size <= MAX_BYTES else None
    return None if file is None else file.read()


class _Member(tarfile.TarInfo):
    """A header of a tar file; one that is damaged is an error, where ``tarfile`` takes it for the end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # not in the stubs
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None

    def _proc_member(self, tarfile_: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _HEADER_TYPES and self.size > _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a name of {self.size} bytes")
        return super()._proc_member(tarfile_)  # type: ignore[misc]  # a hook of tarfile that its stubs lack


def _check_end(stream: io.BufferedIOBase) -> None:
    """Raise ReadError unless a second block of zeros follows the first, and nothing but zeros up to the end.

    What compresses the archive compares its checksum when the end is read.
    """
    length = 0
    while chunk := stream.read(_CHUNK):
        if chunk.count(0) != len(chunk):
            raise tarfile.ReadError("data after the end of the archive")
        length += len(chunk)
    if length < _BLOCK:
        raise tarfile.ReadError("no end of the archive")


@contextmanager
def _damage_named(source: Path) -> Iterator[None]:
    try:
        yield
    except (InputError, GeneratorExit):
        raise
    except Exception as error:
        # Readers of archives raise many kinds of errors on damaged files: TarError, zlib.error, ValueError, KeyError, …
        reason = " ".join(str(error).split()) or type(error).__name__
        raise WorkError(
            f"data.source=folder:{source.name}: not a complete .zip, .tar, .tar.gz, .tar.xz or .tar.zst archive "
            f"({reason[:200]}); replace the file"
        ) from None
