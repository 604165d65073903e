"""Images from a folder, an archive, a list of paths, or a NumPy file."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from vqlab.config import DataConfig
from vqlab.data.arrays import ARRAY_SUFFIXES, array_images
from vqlab.data.cache import cached_arrays
from vqlab.data.decode import decode_image, fit_image
from vqlab.data.files import image_files
from vqlab.data.images import ImageData, Images
from vqlab.data.layout import Place, find_places
from vqlab.data.parts import complete_parts
from vqlab.errors import InputError

_NO_CLASS = "images"
# Part of the name of cached arrays; to be raised when the same files give other arrays.
_VERSION = 2


def load_folder(config: DataConfig) -> ImageData:
    """Load all images of a folder, archive or list, sorted by name.

    The images of an archive are stored in the cache folder; those of a folder are read every time. Which files are
    images, and what their paths say, is described in ``vqlab.data.layout``.

    Args:
        config: ``source`` is ``folder:PATH``, where PATH may begin with ``~``; the size, ``channels``,
            ``fit`` and ``on_broken``.

    Returns:
        The images of all parts; classes are the names of the class folders. ``skipped`` lists the unreadable files,
        ``notes`` has a sentence for each thing that was decided.

    Raises:
        InputError: if the path does not exist, is damaged, or has no images in a part; if an image is unreadable and
            ``on_broken`` is ``refuse``; if an image has another size and ``fit`` is ``exact``.
    """
    path = config.source.removeprefix("folder:")
    source = Path(path).expanduser()
    if not source.exists():
        raise InputError(
            f"data.source=folder:{path}: no such folder or archive; use the path of a folder, of a .zip, .tar, "
            ".tar.gz, .npy or .npz file, or of a .txt or .csv file of paths"
        )
    if not (source.is_dir() or source.is_file()):
        raise InputError(f"data.source=folder:{path}: is a pipe or a device; use a folder or a file")
    if source.is_dir():
        arrays = _read_images(source, config)
    else:
        stat = source.stat()
        size = f"{config.shape} {config.fit} {config.on_broken}"
        identity = f"{_VERSION} {source.resolve()} {stat.st_size} {stat.st_mtime_ns} {size}"
        arrays = cached_arrays(
            hashlib.sha256(identity.encode(errors="surrogateescape")).hexdigest()[:16],
            lambda: _read_images(source, config),
        )
    parts = {part: _images(arrays, part) for part in ("train", "test", "validation")}
    return ImageData(
        _display_name(source),
        parts["train"],
        parts["test"],
        tuple(str(name) for name in arrays["class_names"]),
        tuple(str(name) for name in arrays["skipped"]),
        parts["validation"] if len(parts["validation"]) else None,
        tuple(str(note) for note in arrays["notes"]),
    )


def _images(arrays: dict[str, np.ndarray], part: str) -> Images:
    return Images(torch.from_numpy(arrays[f"{part}_pixels"]), torch.from_numpy(arrays[f"{part}_labels"]))


def _display_name(source: Path) -> str:
    if source.name.startswith("cifar10-jpeg"):
        return "CIFAR-10 (JPEG copy)"
    return source.name or source.resolve().name


def _read_images(source: Path, config: DataConfig) -> dict[str, np.ndarray]:
    """Arrays of the images of a source."""
    skipped, fitted = list[str](), Counter[str]()
    channels, height, width = config.shape
    pixels: dict[str, UInt8[np.ndarray, "C H W"]] = {}
    is_array = source.suffix.lower() in ARRAY_SUFFIXES
    for name, image in array_images(source) if is_array else _decoded(source, config, skipped):
        if image.size != (width, height):
            fitted[f"{image.width}x{image.height}"] += 1
        pixels[name] = fit_image(image, height, width, config.fit, name, [], channels)
    places, notes = complete_parts(find_places(list(pixels)))
    _check_parts(places, config)
    return _to_arrays(places, pixels, skipped, [*notes, *_fit_notes(fitted, config)])


def _decoded(source: Path, config: DataConfig, skipped: list[str]) -> Iterator[tuple[str, Image.Image]]:
    """Name and image of each file; names of unreadable files are added to ``skipped``."""
    for name, content in image_files(source):
        try:
            if content is None:
                raise InputError(f"{name}: cannot be read, or is larger than 200 MB")
            yield name, decode_image(content, name)[0]
        except InputError as error:
            if config.on_broken == "refuse":
                raise InputError(
                    f"data.source={config.source}: {error}; fix or remove the file, or set data.on_broken=skip"
                ) from None
            skipped.append(name)


def _check_parts(places: list[Place], config: DataConfig) -> None:
    for part in ("train", "test"):
        if not any(place.part == part for place in places):
            raise InputError(
                f"data.source={config.source}: no images in {part}/; provide train/ and test/, folders of classes, or "
                "a folder of images"
            )


def _fit_notes(fitted: Counter[str], config: DataConfig) -> list[str]:
    if not fitted:
        return []
    sizes = ", ".join(f"{count} of {size}" for size, count in fitted.most_common(3))
    more = f" and {len(fitted) - 3} other sizes" if len(fitted) > 3 else ""
    _, height, width = config.shape
    return [f"images of another size than {width}x{height}: {fitted.total()} ({sizes}{more}); data.fit={config.fit}"]


def _to_arrays(
    places: list[Place], pixels: dict[str, UInt8[np.ndarray, "C H W"]], skipped: list[str], notes: list[str]
) -> dict[str, np.ndarray]:
    names = [place.class_name or _NO_CLASS for place in places]
    class_names = sorted(set(names))
    empty = np.empty((0, *next(iter(pixels.values())).shape), np.uint8)
    arrays = {
        "class_names": np.array(class_names),
        "skipped": np.array(skipped, dtype=str),
        "notes": np.array(notes, dtype=str),
    }
    for part in ("train", "validation", "test"):
        chosen = [(place.name, name) for place, name in zip(places, names, strict=True) if place.part == part]
        arrays[f"{part}_pixels"] = np.stack([pixels[name] for name, _ in chosen]) if chosen else empty
        arrays[f"{part}_labels"] = np.array([class_names.index(name) for _, name in chosen], np.int64)
    return arrays
