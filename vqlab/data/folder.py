"""A folder, or a .tar/.tar.gz, of train/CLASS/image and test/CLASS/image files."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from vqlab.data.cache import cached_arrays
from vqlab.data.images import ImageData, Images
from vqlab.errors import InputError

_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_PARTS = ("train", "test")


def load_folder(path: str, size: int, on_broken: str) -> ImageData:
    """Every image of the folder or archive, in order of name.

    Raises InputError for a missing or empty source, a wrong image size, and (unless ``on_broken`` is
    ``skip``) for a file that cannot be read; each names the file.
    """
    source = Path(path).expanduser()
    if not source.exists():
        raise InputError(f"data folder:{path}: no such folder or archive")
    if source.is_dir():
        found = _read(_folder_files(source), path, size, on_broken)
    else:
        stat = source.stat()
        text = f"{source.resolve()} {stat.st_size} {stat.st_mtime_ns} {size} {on_broken}"
        found = cached_arrays(
            hashlib.sha256(text.encode()).hexdigest()[:16], lambda: _read(_tar_files(source), path, size, on_broken)
        )
    names = tuple(str(name) for name in found["class_names"])
    train, test = (
        Images(torch.from_numpy(found[f"{part}_pixels"]), torch.from_numpy(found[f"{part}_labels"])) for part in _PARTS
    )
    return ImageData(_title(source), train, test, names, tuple(str(name) for name in found["skipped"]))


def _title(source: Path) -> str:
    if source.name.startswith("cifar10-jpeg"):
        return "CIFAR-10 (JPEG copy)"
    return source.name


def _folder_files(source: Path) -> Iterator[tuple[str, bytes]]:
    for file in sorted(source.glob("*/*/*")):
        if file.is_file():
            yield file.relative_to(source).as_posix(), file.read_bytes()


def _tar_files(source: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(source, "r:*") as archive:
            for member in archive:
                handle = archive.extractfile(member) if member.isfile() else None
                if handle is not None:
                    yield member.name, handle.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(f"data folder:{source.name}: not a whole .tar/.tar.gz archive ({error})") from None


def _read(files: Iterator[tuple[str, bytes]], path: str, size: int, on_broken: str) -> dict[str, np.ndarray]:
    found: dict[str, list[tuple[str, str, np.ndarray]]] = {part: [] for part in _PARTS}
    skipped = []
    for name, content in files:
        place = PurePosixPath(name).parts[-3:]
        if len(place) != 3 or place[0] not in found or not name.lower().endswith(_ENDINGS):
            continue
        try:
            found[place[0]].append((place[1], name, _pixels(content, name, size)))
        except (UnidentifiedImageError, OSError, SyntaxError):
            if on_broken == "refuse":
                raise InputError(
                    f"data folder:{path}: {name} is not a readable image; mend it or set data.on_broken=skip"
                ) from None
            skipped.append(name)
    for part in _PARTS:
        if not found[part]:
            raise InputError(
                f"data folder:{path}: no images in {part}/CLASS/; give train/ and test/ class folders of images"
            )
    return _arrays(found, skipped)


def _pixels(content: bytes, name: str, size: int) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        pixels = np.asarray(image.convert("RGB"))
    if pixels.shape[:2] != (size, size):
        raise InputError(
            f"{name}: {pixels.shape[1]}x{pixels.shape[0]} pixels, expected {size}x{size}; resize or set data.image_size"
        )
    return pixels.transpose(2, 0, 1)


def _arrays(found: dict[str, list[tuple[str, str, np.ndarray]]], skipped: list[str]) -> dict[str, np.ndarray]:
    names = sorted({kind for rows in found.values() for kind, _, _ in rows})
    arrays: dict[str, np.ndarray] = {"class_names": np.array(names), "skipped": np.array(skipped, dtype=str)}
    for part, rows in found.items():
        rows.sort(key=lambda row: row[1])
        arrays[f"{part}_pixels"] = np.stack([pixels for _, _, pixels in rows])
        arrays[f"{part}_labels"] = np.array([names.index(kind) for kind, _, _ in rows], np.int64)
    return arrays
