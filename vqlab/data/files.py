"""The image files of a folder, an archive or a list, one after the other."""

from __future__ import annotations

import csv
import io
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from vqlab.data.layout import is_image_name, part_folder
from vqlab.errors import InputError

LIST_SUFFIXES = (".txt", ".csv", ".tsv")
# Larger files are no images that this package could use; an archive may claim any size.
MAX_BYTES = 200_000_000
_PATH_COLUMNS = ("path", "file", "filename", "file_name", "image", "filepath")
_LABEL_COLUMNS = ("label", "class", "category", "target")
_PART_COLUMNS = ("split", "part", "subset")


class File(NamedTuple):
    """An image file of a source.

    Attributes:
        name: its path inside the source, with ``/``; in lists, PART/CLASS/ is put before it.
        content: its bytes; None if it cannot be read or is too large.
    """

    name: str
    content: bytes | None


def image_files(source: Path) -> Iterator[File]:
    """Iterate over the image files of a source.

    Args:
        source: a folder, an archive (.zip, .tar, .tar.gz, .tar.xz, …), or a text or CSV file of paths.

    Returns:
        The files whose names are those of images; links that lead in circles, pipes and devices are not opened.

    Raises:
        InputError: if the source is of another kind, or an archive is damaged.
    """
    if source.is_dir():
        return _folder_files(source)
    if source.suffix.lower() in LIST_SUFFIXES:
        return _listed_files(source)
    return _zip_files(source) if zipfile.is_zipfile(source) else _tar_files(source)


def _folder_files(source: Path) -> Iterator[File]:
    visited = set()
    for folder, folders, names in os.walk(source, followlinks=True):
        identity = os.path.realpath(folder)
        if identity in visited:
            folders.clear()
            continue
        visited.add(identity)
        folders.sort()
        for file in (Path(folder, name) for name in sorted(names)):
            name = file.relative_to(source).as_posix()
            if is_image_name(name) and file.is_file():
                yield File(printable(name), _read(file))


def _listed_files(source: Path) -> Iterator[File]:
    for path, label, part in _listed_paths(source):
        file = source.parent / Path(path).expanduser()
        yield File(printable(_listed_name(PurePosixPath(path), label, part)), _read(file) if file.is_file() else None)


def _listed_name(path: PurePosixPath, label: str, part: str) -> str:
    """The path itself, or PART/LABEL/FILE where a list says them: its folders then say the part at most."""
    if not (label or part):
        return str(path)
    folders = path.parent.parts
    found = part_folder(folders)
    part = part or ("" if found is None else folders[found])
    return "/".join([*filter(None, (part, label)), str(path).strip("/").replace("/", "_")])


def _listed_paths(source: Path) -> list[tuple[str, str, str]]:
    """Path, label and part of each line; the last two may be empty."""
    text = source.read_text(encoding="utf-8-sig", errors="surrogateescape")
    if source.suffix.lower() == ".txt":
        return [(line.strip(), "", "") for line in text.splitlines() if line.strip()]
    rows = list(csv.DictReader(io.StringIO(text), delimiter="\t" if source.suffix.lower() == ".tsv" else ","))
    columns = {(name or "").strip().lower(): name for name in (rows[0] if rows else ())}
    path, label, part = (
        next((columns[name] for name in names if name in columns), None)
        for names in (_PATH_COLUMNS, _LABEL_COLUMNS, _PART_COLUMNS)
    )
    if path is None:
        raise InputError(
            f"data.source=folder:{source.name}: has no column of paths; name one of {', '.join(_PATH_COLUMNS)}"
        )
    return [((row[path] or "").strip(), (row.get(label) or "").strip(), (row.get(part) or "").strip()) for row in rows]


def _zip_files(source: Path) -> Iterator[File]:
    try:
        with zipfile.ZipFile(source) as archive:
            for member in archive.infolist():
                if member.is_dir() or not is_image_name(member.filename):
                    continue
                if member.flag_bits & 1:
                    raise InputError(f"data.source=folder:{source.name}: is encrypted; unpack it first")
                yield File(printable(member.filename), None if member.file_size > MAX_BYTES else archive.read(member))
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
        raise _damaged(source, error) from None


def _tar_files(source: Path) -> Iterator[File]:
    try:
        with tarfile.open(source, "r:*") as archive:
            for member in archive:
                # Hard links are files, too.
                if (member.isfile() or member.islnk()) and is_image_name(member.name):
                    file = archive.extractfile(member)
                    too_large = member.size > MAX_BYTES or file is None
                    yield File(printable(member.name), None if too_large or file is None else file.read())
            # A checksum of the whole is compared at the end of the file only.
            while archive.fileobj and archive.fileobj.read(1 << 20):
                pass
    except (tarfile.TarError, zlib.error, EOFError, OSError, KeyError) as error:
        raise _damaged(source, error) from None


def _damaged(source: Path, error: Exception) -> InputError:
    return InputError(
        f"data.source=folder:{source.name}: not a complete .zip, .tar or .tar.gz archive ({error}); replace the file"
    )


def _read(file: Path) -> bytes | None:
    try:
        return None if file.stat().st_size > MAX_BYTES else file.read_bytes()
    except OSError:
        return None


def printable(name: str) -> str:
    """Make a name that can be printed and stored; bytes that are no UTF-8 appear as hexadecimal escapes.

    Args:
        name: a name as the operating system gives it.

    Returns:
        The name in valid Unicode.
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
