"""Images from a folder, or from a .tar or .tar.gz archive, with train/CLASS/ and test/CLASS/ folders."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from vqlab.data.cache import cached_arrays
from vqlab.data.images import ImageData, Images
from vqlab.errors import InputError

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_SPLITS = ("train", "test")


def load_folder(path: str, image_size: int, on_broken: str) -> ImageData:
    """Load all images of a folder or archive, sorted by name.

    The images of an archive are stored in the cache folder; those of a folder are read every time. Files with other
    suffixes than .png, .jpg, .jpeg, .bmp and .webp, and files outside train/CLASS/ and test/CLASS/, are ignored.

    Args:
        path: a folder, or a .tar or .tar.gz file; ``~`` is expanded.
        image_size: height and width that every image must have, pixels.
        on_broken: ``refuse`` to raise InputError for an unreadable image, ``skip`` to leave it out.

    Returns:
        Training and test images; classes are the names of the class folders. ``skipped`` lists the unreadable files.

    Raises:
        InputError: if ``path`` does not exist, is not a complete archive, or has no images in train/ or test/; if an
            image has another size; if an image is unreadable and ``on_broken`` is ``refuse``.
    """
    source = Path(path).expanduser()
    if not source.exists():
        raise InputError(
            f"data.source=folder:{path}: no such folder or archive; use the path of a folder, .tar or .tar.gz file"
        )
    if source.is_dir():
        arrays = _read_images(_folder_files(source), path, image_size, on_broken)
    else:
        stat = source.stat()
        identity = f"{source.resolve()} {stat.st_size} {stat.st_mtime_ns} {image_size} {on_broken}"
        arrays = cached_arrays(
            hashlib.sha256(identity.encode()).hexdigest()[:16],
            lambda: _read_images(_archive_files(source), path, image_size, on_broken),
        )
    class_names = tuple(str(name) for name in arrays["class_names"])
    train, test = (
        Images(torch.from_numpy(arrays[f"{split}_pixels"]), torch.from_numpy(arrays[f"{split}_labels"]))
        for split in _SPLITS
    )
    return ImageData(_display_name(source), train, test, class_names, tuple(str(name) for name in arrays["skipped"]))


def _display_name(source: Path) -> str:
    if source.name.startswith("cifar10-jpeg"):
        return "CIFAR-10 (JPEG copy)"
    return source.name


def _folder_files(source: Path) -> Iterator[tuple[str, bytes]]:
    for file in sorted(source.glob("*/*/*")):
        if file.is_file():
            yield file.relative_to(source).as_posix(), file.read_bytes()


def _archive_files(source: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(source, "r:*") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None:
                    yield member.name, file.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(
            f"data.source=folder:{source.name}: not a complete .tar or .tar.gz archive ({error}); replace the file"
        ) from None


def _read_images(
    files: Iterator[tuple[str, bytes]], path: str, image_size: int, on_broken: str
) -> dict[str, np.ndarray]:
    """Arrays of the images in ``files``, pairs of name and content; ``path`` is for messages."""
    # Per split: class, file name and pixels of each image.
    images: dict[str, list[tuple[str, str, np.ndarray]]] = {split: [] for split in _SPLITS}
    skipped = []
    for name, content in files:
        parts = PurePosixPath(name).parts[-3:]
        if len(parts) != 3 or parts[0] not in images or not name.lower().endswith(_SUFFIXES):
            continue
        try:
            images[parts[0]].append((parts[1], name, _decode(content, name, image_size)))
        except (UnidentifiedImageError, OSError, SyntaxError):
            if on_broken == "refuse":
                raise InputError(
                    f"data.source=folder:{path}: {name} is not a readable image; fix or remove the file, or set "
                    "data.on_broken=skip"
                ) from None
            skipped.append(name)
    for split in _SPLITS:
        if not images[split]:
            raise InputError(
                f"data.source=folder:{path}: no images in {split}/CLASS/; provide train/ and test/ with class folders "
                "of images"
            )
    return _to_arrays(images, skipped)


def _decode(content: bytes, name: str, image_size: int) -> UInt8[np.ndarray, "3 H W"]:
    with Image.open(io.BytesIO(content)) as image:
        pixels = np.asarray(image.convert("RGB"))
    if pixels.shape[:2] != (image_size, image_size):
        raise InputError(
            f"{name}: {pixels.shape[1]}x{pixels.shape[0]} pixels, must be {image_size}x{image_size}; resize the image "
            "or set data.image_size"
        )
    return pixels.transpose(2, 0, 1)


def _to_arrays(images: dict[str, list[tuple[str, str, np.ndarray]]], skipped: list[str]) -> dict[str, np.ndarray]:
    class_names = sorted({class_name for rows in images.values() for class_name, _, _ in rows})
    arrays: dict[str, np.ndarray] = {"class_names": np.array(class_names), "skipped": np.array(skipped, dtype=str)}
    for split, rows in images.items():
        rows.sort(key=lambda row: row[1])
        arrays[f"{split}_pixels"] = np.stack([pixels for _, _, pixels in rows])
        arrays[f"{split}_labels"] = np.array([class_names.index(class_name) for class_name, _, _ in rows], np.int64)
    return arrays
