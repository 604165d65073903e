"""Images from a folder, an archive, a list of paths, a NumPy file or Parquet files."""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import closing
from pathlib import Path

import numpy as np

from vqlab.config import DataConfig
from vqlab.data.archives import list_archive
from vqlab.data.arrays import ARRAY_SUFFIXES, list_arrays
from vqlab.data.cache import report_no_cache
from vqlab.data.decode_batch import Fitting
from vqlab.data.files import LIST_SUFFIXES, ImageSource, list_folder, list_paths
from vqlab.data.image_cache import VERSION, CacheEntry
from vqlab.data.images import ImageData, Images
from vqlab.data.memory import memory_budget
from vqlab.data.parquet import list_parquet, parquet_paths
from vqlab.data.reading import arrange, display_name, read_files, unreadable
from vqlab.data.spool import CacheWriteError, Spool
from vqlab.data.stored_images import PARTS, StoredImages
from vqlab.errors import InputError, WorkError
from vqlab.files import error_parts


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
    stored = _read_small(source, listed, config) or _cached(source, listed, config)
    if stored.skipped and config.on_broken == "refuse":
        raise unreadable(config, stored.skipped[0][1])
    data = stored.to_data(display_name(source))
    if config.random_crop and not _has_room(data.train, config):
        raise InputError(
            f"data.random_crop=True: no training image of data.source={config.source} is longer or higher than "
            f"{config.shape[2]}x{config.shape[1]} pixels once it is scaled, so there is nothing to crop; set False"
        )
    return data


def _has_room(images: Images, config: DataConfig) -> bool:
    assert images.uncropped is not None
    return bool((images.uncropped.places[:, 1:] > config.shape[1:]).any())


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
    source = Path(os.path.expanduser(path))
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
    return "\n".join([f"{VERSION} {_fitted_source(source, config)}", *listed.stamp])


def _fitted_source(source: Path, config: DataConfig) -> str:
    return f"{source.resolve()} {config.shape} {config.fit}{' uncropped' if config.random_crop else ''}"


def _read_small(source: Path, listed: ImageSource, config: DataConfig) -> StoredImages | None:
    """The images of files that fit the memory; None for others."""
    if not listed.in_files or len(listed.stamp) * Fitting.of(config).image_bytes > memory_budget(config.memory):
        return None
    try:
        return _read_once(source, listed, config)
    except MemoryError:
        return None


def _cached(source: Path, listed: ImageSource, config: DataConfig) -> StoredImages:
    """The images from the cache, where they are written first if they are not there."""
    budget, name = memory_budget(config.memory), display_name(source)
    try:
        entry = CacheEntry.of(_fitted_source(source, config), _content(source, listed, config))
        if (stored := entry.read(budget)) is not None:
            return stored
        with entry.lock(name):
            return entry.read(budget) or _write_entry(entry, source, listed, config, budget)
    except OSError as error:
        if listed.in_files:
            raise _too_large(config, error) from None
        return _without_cache(source, listed, config, error)


def _write_entry(entry: CacheEntry, source: Path, listed: ImageSource, config: DataConfig, budget: int) -> StoredImages:
    spool = Spool(Fitting.of(config), entry.start(keep=True))
    try:
        # Closed after Ctrl-C or an unreadable image, too: the next call goes on with what was read.
        with closing(spool):
            read_files(source, listed, config, spool)
    except OSError:
        entry.discard()
        raise
    try:
        entry.finish(*arrange(spool, config))
    except Exception:
        entry.discard()
        raise
    written = entry.read(budget)
    if written is None:
        raise CacheWriteError(0, "the file that was written cannot be read")
    print(
        f"{display_name(source)}: {len(written.pixels):,} images of {entry.size / 2**30:.2f} GiB are stored in "
        f"{entry.folder}; `vqlab data --clear` removes such files", file=sys.stderr, flush=True,
    )  # fmt: skip
    return written


def _without_cache(source: Path, listed: ImageSource, config: DataConfig, error: OSError) -> StoredImages:
    """Read images into memory, up to the budget, because the cache cannot be written."""
    report_no_cache(error)
    try:
        return _read_once(source, listed, config)
    except MemoryError:
        raise _too_large(config, error) from None


def _too_large(config: DataConfig, error: OSError) -> WorkError:
    size = memory_budget(config.memory) / 2**30
    return WorkError(
        f"data.source={config.source}: larger than {size:.3g} GiB, and the cache folder cannot be written "
        f"({': '.join(error_parts(error))}); set VQLAB_CACHE to a folder with enough space, or data.memory to more GiB"
    )


def _read_once(source: Path, listed: ImageSource, config: DataConfig) -> StoredImages:
    spool = Spool(Fitting.of(config), limit=memory_budget(config.memory))
    read_files(source, listed, config, spool)
    stored, order = arrange(spool, config)
    rows = np.concatenate([order[part] for part in PARTS])
    stops = np.cumsum([len(order[part]) for part in PARTS]).tolist()
    starts = [0, *stops[:-1]]
    stored.pixels, stored.labels = stored.pixels[rows], stored.labels[rows]
    stored.uncropped = stored.uncropped and stored.uncropped.select(rows)
    stored.parts = dict(zip(PARTS, zip(starts, stops, strict=True), strict=True))
    return stored
