"""What the path of an image file says: its part (training, validation, test) and its class."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

_PARTS = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".avif",
)  # fmt: skip
# Folders that systems and programs add.
_ADDED_FOLDERS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN")


class Place(NamedTuple):
    """Where an image belongs.

    Attributes:
        name: path of the file.
        part: ``train``, ``validation`` or ``test``; None if the path does not say it.
        class_name: its class; None if the path does not say it.
    """

    name: str
    part: str | None
    class_name: str | None


def is_image_name(name: str) -> bool:
    """Find out whether a path is that of an image, by its ending, and not a file that a system added.

    Args:
        name: path inside the source, with ``/``.

    Returns:
        False for other endings, for hidden files and folders (``._0.png``, ``.ipynb_checkpoints``) and for
        ``__MACOSX`` and the like.

    Example:
        >>> [is_image_name(name) for name in ("cat/0.PNG", "__MACOSX/cat/0.png", "cat/._0.png", "cat/notes.txt")]
        [True, False, False, False]
    """
    if os.path.splitext(name)[1].lower() not in SUFFIXES:
        return False
    parts = name.split("/")
    return not any(part.startswith(".") or part in _ADDED_FOLDERS for part in parts if part not in (".", ".."))


def find_places(names: Sequence[str]) -> list[Place]:
    """Read part and class of each image from its path.

    Folders that all paths have in common say nothing. If any path has a folder named ``train``, ``val``, ``test`` or
    the like, its first such folder is its part, the folder below it its class, and images outside of such folders
    are left out. Otherwise the first folder is the class. Names of classes are compared in Unicode's form NFC, so that
    an accent typed on another system does not make another class.

    Args:
        names: paths inside the source, with ``/``.

    Returns:
        Places, sorted by name.

    Example:
        >>> find_places(["set/train/cat/0.png", "set/test/dog/more/1.png"])[0]
        Place(name='set/test/dog/more/1.png', part='test', class_name='dog')
    """
    parents = {name: name.rpartition("/")[0] for name in names}
    # There are few folders and may be millions of files.
    folders = {parent: PurePosixPath(parent).parts for parent in set(parents.values())}
    found = {parent: _part_and_class(parts) for parent, parts in folders.items()}
    if not any(found.values()):
        common = _common_length(list(folders.values()))
        found = {parent: (None, _class_name(parts[common:])) for parent, parts in folders.items()}
    return sorted(Place(name, *place) for name, parent in parents.items() if (place := found[parent]) is not None)


def _part_and_class(folders: tuple[str, ...]) -> tuple[str | None, str | None] | None:
    start = part_folder(folders)
    return None if start is None else (_PARTS[folders[start].lower()], _class_name(folders[start + 1 :]))


def part_folder(folders: Sequence[str]) -> int | None:
    """Find the first folder that names a part.

    Args:
        folders: names of the folders of a path, from the outermost.

    Returns:
        Its index; None if there is none.

    Example:
        >>> part_folder(["set", "Valid", "cat"])
        1
    """
    return next((index for index, folder in enumerate(folders) if folder.lower() in _PARTS), None)


def _class_name(folders: tuple[str, ...]) -> str | None:
    return unicodedata.normalize("NFC", folders[0]) if folders else None


def _common_length(paths: Sequence[tuple[str, ...]]) -> int:
    first, last = min(paths, default=()), max(paths, default=())
    return next((index for index, (one, other) in enumerate(zip(first, last, strict=False)) if one != other),
                min(len(first), len(last)))  # fmt: skip
