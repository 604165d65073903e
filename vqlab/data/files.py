"""The image files of a folder, an archive or a list, one after the other."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from PIL import Image

from vqlab.data.layout import is_image_name, part_folder
from vqlab.errors import InputError

LIST_SUFFIXES = (".txt", ".csv", ".tsv")
# Larger files are no images that this package could use; an archive may claim any size.
MAX_BYTES = 200_000_000
_MAX_LIST_BYTES = 1_000_000_000
# Where Linux shows processes, hardware and devices as files.
_SYSTEM_FOLDERS = ("/proc", "/sys", "/dev")
_PATH_COLUMNS = ("path", "file", "filename", "file_name", "image", "filepath")
_LABEL_COLUMNS = ("label", "class", "category", "target")
_PART_COLUMNS = ("split", "part", "subset")


class File(NamedTuple):
    """An image file of a source.

    Attributes:
        name: its path inside the source, with ``/``; in lists, PART/CLASS/ is put before it.
        content: its bytes, or its pixels; None if it cannot be read or is too large, or if ``path`` says where it is.
        path: where to read it; None if ``content`` holds it.
    """

    name: str
    content: bytes | Image.Image | None = None
    path: str | None = None


@dataclass
class ReadPosition:
    """How far a source is read.

    Attributes:
        share: share of the source, 0…1.
    """

    share: float = 0.0


@dataclass(frozen=True)
class ImageSource:
    """A folder, archive, list or file of images, listed but not read.

    Attributes:
        stamp: a line for each file on disk: name, size and time of change. Other images have other lines.
        files: iterates over the images once and keeps a position up to date.
        in_files: whether each image is a file of its own.
    """

    stamp: tuple[str, ...]
    files: Callable[[ReadPosition], Iterator[File]]
    in_files: bool = False


def file_stamp(path: str | Path, name: str | None = None) -> str:
    """Describe a file, so that another content has another description.

    Args:
        path: the file.
        name: its name in the description; None for the path.

    Returns:
        Name, size and time of change; the name alone if there is no such file.
    """
    try:
        stat = os.stat(path)
    except (OSError, ValueError):  # ValueError: a name with a NUL
        return f"{name or path}"
    return f"{name or path}\t{stat.st_size}\t{stat.st_mtime_ns}"


def list_folder(source: Path) -> ImageSource:
    """List the image files of a folder and its folders.

    Args:
        source: the folder.

    Returns:
        The files whose names are those of images. Links that lead in circles, pipes and devices are not opened, and
        the folders in which a system shows its processes and devices are passed over.
    """
    found = list(_walk(str(source)))
    return ImageSource(
        tuple(file_stamp(path, name) for name, path in found),
        _in_order([File(printable(name), path=path) for name, path in found]), in_files=True,
    )  # fmt: skip


def list_paths(source: Path) -> ImageSource:
    """List the image files that a text or CSV file names.

    Args:
        source: the file, with one of ``LIST_SUFFIXES``.

    Returns:
        The files.

    Raises:
        InputError: if the file is larger than 1 GB, is no text or CSV, or has no column of paths.
    """
    listed = list(_listed_files(source))
    stamp = (file_stamp(source), *(file_stamp(path) for _, _, path in listed if path is not None))
    return ImageSource(stamp, _in_order(listed), in_files=True)


def _in_order(files: list[File]) -> Callable[[ReadPosition], Iterator[File]]:
    def iterate(position: ReadPosition) -> Iterator[File]:
        for number, file in enumerate(files, 1):
            yield file
            position.share = number / len(files)

    return iterate


def _walk(source: str) -> Iterator[tuple[str, str]]:
    """Name and path of each image: those of a folder itself first, then those of its folders."""
    visited, waiting = set[str](), [(source, "")]
    while waiting:
        folder, inside = waiting.pop()
        identity = os.path.realpath(folder)
        if identity in visited or identity in _SYSTEM_FOLDERS:
            continue
        visited.add(identity)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            if is_image_name(name := f"{inside}{entry.name}") and os.path.isfile(entry.path):
                yield name, entry.path
        waiting += [(entry.path, f"{inside}{entry.name}/") for entry in reversed(entries) if os.path.isdir(entry.path)]


def _listed_files(source: Path) -> Iterator[File]:
    for path, label, part in _listed_paths(source):
        file = source.parent / os.path.expanduser(path)
        yield File(printable(_listed_name(PurePosixPath(path), label, part)), path=str(file))


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
    if source.stat().st_size > _MAX_LIST_BYTES:
        raise InputError(f"data.source=folder:{source.name}: is larger than 1 GB, which no list of paths is; divide it")
    text = source.read_text(encoding="utf-8-sig", errors="surrogateescape")
    if source.suffix.lower() == ".txt":
        return [(line.strip(), "", "") for line in text.splitlines() if line.strip()]
    try:
        rows = list(csv.DictReader(io.StringIO(text), delimiter="\t" if source.suffix.lower() == ".tsv" else ","))
    except csv.Error as error:
        raise InputError(f"data.source=folder:{source.name}: is no CSV file ({error}); correct it") from None
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


def printable(name: str) -> str:
    """Make a name that can be printed and stored; bytes that are no UTF-8 appear as hexadecimal escapes.

    Args:
        name: a name as the operating system gives it.

    Returns:
        The name in valid Unicode.
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
