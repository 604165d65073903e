"""Images from a folder, an archive, a list of paths, a NumPy file or Parquet files."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from vqlab.config import DataConfig
from vqlab.data.archives import list_archive
from vqlab.data.arrays import ARRAY_SUFFIXES, list_arrays
from vqlab.data.decode_batch import Fitting
from vqlab.data.decoding import decode_files
from vqlab.data.files import LIST_SUFFIXES, ImageSource, ReadPosition, list_folder, list_paths
from vqlab.data.image_cache import VERSION, CacheEntry
from vqlab.data.images import ImageData
from vqlab.data.layout import Place, find_places
from vqlab.data.memory import VARIABLE, memory_budget
from vqlab.data.parquet import list_parquet, parquet_paths
from vqlab.data.parts import complete_parts
from vqlab.data.progress import reading_progress
from vqlab.data.spool import CacheWriteError, Spool
from vqlab.data.stored_images import PARTS, Order, StoredImages
from vqlab.errors import InputError

_NO_CLASS = "images"
_SPOOL = "spool.bin"


def load_folder(config: DataConfig) -> ImageData:
    """Load all images of a folder, archive or list, sorted by name.

    The pixels of an archive or a file are stored in the cache folder; those of a folder or list only if they are
    larger than ``memory_budget``, else they are read every time. Pixels larger than that are mapped from the cache, not
    read into memory. Which files are images, and what their paths say, is described in ``vqlab.data.layout``.

    Args:
        config: ``source`` is ``folder:PATH``, where PATH may begin with ``~``; the size, ``channels``,
            ``fit`` and ``on_broken``.

    Returns:
        The images of all parts; classes are the names of the class folders. ``skipped`` lists the unreadable files,
        ``notes`` has a sentence for each thing that was decided.

    Raises:
        InputError: if the path does not exist, is damaged, or has no images in a part; if an image is unreadable and
            ``on_broken`` is ``refuse``; if an image has another size and ``fit`` is ``exact``; if pixels larger than
            the budget cannot be stored.
    """
    source = _existing_path(config)
    listed = _list_source(source)
    if listed.in_files and len(listed.stamp) * Fitting.of(config).image_bytes <= memory_budget():
        stored = _read_once(source, listed, config)
    else:
        stored = _cached(source, listed, config)
    if stored.skipped and config.on_broken == "refuse":
        raise _unreadable(config, stored.skipped[0][1])
    return stored.to_data(_display_name(source))


def source_key(config: DataConfig) -> str | None:
    """Describe the files of a source and how they are fitted, without reading them.

    Args:
        config: the source.

    Returns:
        16 hexadecimal digits, which change with name, size or time of change of any file; None for the sources of the
        package.

    Raises:
        InputError: if the path does not exist, or a Parquet file cannot be listed.
    """
    if not config.source.startswith("folder:"):
        return None
    source = _existing_path(config)
    content = _content(source, _list_source(source), config)
    return hashlib.sha256(content.encode(errors="surrogateescape")).hexdigest()[:16]


def _existing_path(config: DataConfig) -> Path:
    path = config.source.removeprefix("folder:")
    source = Path(path).expanduser()
    if not source.exists():
        raise InputError(
            f"data.source=folder:{path}: no such folder or archive; use the path of a folder, of a .zip, .tar, "
            ".tar.gz, .tar.zst, .parquet, .npy or .npz file, or of a .txt or .csv file of paths"
        )
    if not (source.is_dir() or source.is_file()):
        raise InputError(f"data.source=folder:{path}: is a pipe or a device; use a folder or a file")
    return source


def _list_source(source: Path) -> ImageSource:
    if source.suffix.lower() in ARRAY_SUFFIXES and source.is_file():
        return list_arrays(source)
    if paths := parquet_paths(source):
        return list_parquet(source, paths)
    if source.is_file():
        return list_paths(source) if source.suffix.lower() in LIST_SUFFIXES else list_archive(source)
    listed = list_folder(source)
    if not listed.stamp and (paths := parquet_paths(source, deep=True)):
        return list_parquet(source, paths)
    return listed


def _content(source: Path, listed: ImageSource, config: DataConfig) -> str:
    return "\n".join([f"{VERSION} {source.resolve()} {config.shape} {config.fit}", *listed.stamp])


def _cached(source: Path, listed: ImageSource, config: DataConfig) -> StoredImages:
    """The images from the cache, where they are written first if they are not there."""
    budget, name = memory_budget(), _display_name(source)
    entry = CacheEntry.of(f"{source.resolve()} {config.shape} {config.fit}", _content(source, listed, config))
    if (stored := entry.read(budget)) is not None:
        return stored
    try:
        with entry.lock(name):
            return entry.read(budget) or _write_entry(entry, source, listed, config, budget)
    except OSError as error:
        if listed.in_files:
            raise _too_large(config, error) from None
        return _without_cache(source, listed, config, error)


def _write_entry(entry: CacheEntry, source: Path, listed: ImageSource, config: DataConfig, budget: int) -> StoredImages:
    spool = Spool(entry.start() / _SPOOL)
    try:
        stored, order = _decode(source, listed, config, spool)
        entry.finish(stored, order)
    finally:
        spool.close()
        entry.discard()
    written = entry.read(budget)
    if written is None:
        raise CacheWriteError(0, "the file that was written cannot be read")
    print(
        f"{_display_name(source)}: {len(written.pixels):,} images of {entry.size / 2**30:.2f} GiB are stored in "
        f"{entry.folder}; `vqlab data --clear` removes such files", file=sys.stderr, flush=True,
    )  # fmt: skip
    return written


def _without_cache(source: Path, listed: ImageSource, config: DataConfig, error: OSError) -> StoredImages:
    """Read images into memory, up to the budget, because the cache cannot be written."""
    try:
        return _read_once(source, listed, config)
    except MemoryError:
        raise _too_large(config, error) from None


def _too_large(config: DataConfig, error: OSError) -> InputError:
    return InputError(
        f"data.source={config.source}: larger than {memory_budget() / 2**30:.3g} GiB, and the cache folder cannot be "
        f"written ({error.strerror or error}); set VQLAB_CACHE to a folder with enough space, or {VARIABLE} to more GiB"
    )


def _read_once(source: Path, listed: ImageSource, config: DataConfig) -> StoredImages:
    stored, order = _decode(source, listed, config, Spool(None))
    rows = np.concatenate([order[part] for part in PARTS])
    stops = np.cumsum([len(order[part]) for part in PARTS]).tolist()
    starts = [0, *stops[:-1]]
    stored.pixels, stored.labels = stored.pixels[rows], stored.labels[rows]
    stored.parts = dict(zip(PARTS, zip(starts, stops, strict=True), strict=True))
    return stored


def _display_name(source: Path) -> str:
    if source.name.startswith("cifar10-jpeg"):
        return "CIFAR-10 (JPEG copy)"
    return source.name or source.resolve().name


def _decode(source: Path, listed: ImageSource, config: DataConfig, spool: Spool) -> tuple[StoredImages, Order]:
    """Read all images; their pixels and labels are in the order of reading, and the rows of each part beside them."""
    rows, position = dict[str, int](), ReadPosition()
    skipped, counts = list[tuple[str, str]](), [Counter[str](), Counter[str](), Counter[str]()]
    limit = None if spool.on_disk else memory_budget()
    number = 0
    with reading_progress(_display_name(source)) as report:
        for batch in decode_files(listed.files(position), Fitting.of(config)):
            if batch.broken and config.on_broken == "refuse":
                raise _unreadable(config, batch.broken[0][1])
            skipped += batch.broken
            rows.update(zip(batch.names, range(number, number + len(batch.names)), strict=True))
            number += len(batch.names)
            if limit is not None and number * Fitting.of(config).image_bytes > limit:
                raise MemoryError
            spool.add(batch.pixels)
            for total, found in zip(counts, (batch.sizes, batch.modes, batch.fitted), strict=True):
                total.update(found)
            report(number, position.share)
    places, notes = complete_parts(find_places(list(rows)))
    _check_parts(places, config)
    labels, class_names, order = _label(places, rows, number)
    sizes, modes, fitted = counts
    return StoredImages(
        spool.pixels(), labels, {}, class_names, skipped, [*notes, *_fit_notes(fitted, config)],
        dict(sizes.most_common()), dict(modes.most_common()),
    ), order  # fmt: skip


def _unreadable(config: DataConfig, message: str) -> InputError:
    return InputError(f"data.source={config.source}: {message}; fix or remove the file, or set data.on_broken=skip")


def _label(places: list[Place], rows: dict[str, int], count: int) -> tuple[np.ndarray, list[str], Order]:
    """Label of each row, names of the classes, and the rows of each part sorted by name."""
    class_names = sorted({place.class_name or _NO_CLASS for place in places})
    label_of = {name: label for label, name in enumerate(class_names)}
    labels, order = np.zeros(count, np.int64), {part: list[int]() for part in PARTS}
    for place in places:
        row = rows[place.name]
        labels[row] = label_of[place.class_name or _NO_CLASS]
        order[place.part or "train"].append(row)
    return labels, class_names, {part: np.array(found, np.int64) for part, found in order.items()}


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
