"""Sets of images in Parquet files, as Hugging Face stores them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vqlab.data.decompression import MAX_RATIO
from vqlab.data.files import MAX_BYTES, File, ImageSource, ReadPosition, file_stamp, printable
from vqlab.data.layout import part_folder
from vqlab.errors import InputError, WorkError

SUFFIX = ".parquet"
_IMAGE_COLUMNS = ("image", "img", "images", "picture", "photo")
_LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "category", "target")
_MAX_ROWS, _MAX_BATCH_BYTES = 256, 16_000_000


def parquet_paths(source: Path, *, deep: bool = False) -> list[Path]:
    """Find the Parquet files of a source.

    Args:
        source: a file, or a folder.
        deep: whether all folders in it are looked at, but hidden ones. Default False: the folder itself and ``data``,
            which costs no time where there are millions of other files.

    Returns:
        The files by name; empty if the source has none.
    """
    if source.is_file():
        return [source] if source.suffix.lower() == SUFFIX else []
    patterns = [f"**/*{SUFFIX}"] if deep else [f"*{SUFFIX}", f"data/*{SUFFIX}"]
    found = (path for pattern in patterns for path in source.glob(pattern) if path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(source).parts))


def list_parquet(source: Path, paths: list[Path]) -> ImageSource:
    """List the rows of Parquet files, without reading the images.

    The column of images is the one that the metadata of Hugging Face name, or a struct with ``bytes``, or bytes; the
    column of classes is its ClassLabel, or is named label, class or the like. The part is the first word of a file's
    name (``train-00000-of-00002.parquet``) or the name of its folder; without one it is train.

    Args:
        source: the file or folder.
        paths: its Parquet files.

    Returns:
        The images, ``PART/CLASS/FILE-ROW``.

    Raises:
        InputError: if pyarrow is not installed.
    """
    parquet = _pyarrow(source)

    def files(position: ReadPosition) -> Iterator[File]:
        done, total = 0, sum(_opened(parquet, path).metadata.num_rows for path in paths)
        for number, path in enumerate(paths):
            for file in _rows(_opened(parquet, path), path, _part(path, source), number):
                yield file
                done += 1
                position.share = min(1.0, done / max(1, total))

    return ImageSource(tuple(map(file_stamp, paths)), files)


def _pyarrow(source: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise InputError(
            f"data.source=folder:{source.name}: needs the package pyarrow; install it with `pip install pyarrow`"
        ) from None
    return pyarrow.parquet


def _opened(parquet: Any, path: Path) -> Any:
    try:
        return parquet.ParquetFile(path, page_checksum_verification=True, pre_buffer=False)
    except Exception as error:  # pyarrow raises ArrowInvalid, OSError and others for damaged files.
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> WorkError:
    reason = " ".join(str(error).split())[:200]
    return WorkError(f"data.source=folder:{path.name}: is not a whole Parquet file ({reason}); replace the file")


def _part(path: Path, source: Path) -> str:
    inside = path.relative_to(source).parts[:-1] if source.is_dir() else ()
    word = path.stem.replace("_", "-").replace(".", "-").partition("-")[0]
    names = [word, *reversed(inside)]
    found = part_folder(names)
    return "train" if found is None else names[found]


def _rows(file: Any, path: Path, part: str, number: int) -> Iterator[File]:
    image, label, names = _columns(file.schema_arrow, path)
    row = 0
    try:
        _check_proportion(file.metadata)
        for batch in file.iter_batches(_batch_rows(file.metadata), columns=[image, *([label] if label else [])]):
            images = batch.column(0).to_pylist()
            labels = batch.column(1).to_pylist() if label else [None] * len(images)
            for stored, value in zip(images, labels, strict=True):
                content = stored.get("bytes") if isinstance(stored, dict) else stored
                name = "/".join([part, *_class_folder(value, names), f"{number:05d}-{row:08d}"])
                yield File(name, content if content is not None and len(content) <= MAX_BYTES else None)
                row += 1
    except InputError:
        raise
    except Exception as error:  # as in ``_opened``
        raise _damaged(path, error) from None


def _check_proportion(metadata: Any) -> None:
    """Raise ValueError if a column unpacks to far more than images compress; it would be unpacked in memory."""
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            if chunk.total_uncompressed_size > MAX_BYTES + MAX_RATIO * chunk.total_compressed_size:
                raise ValueError(f"the content is more than {MAX_RATIO} times the file")


def _batch_rows(metadata: Any) -> int:
    """Rows that are decoded at a time: fewer if they are large."""
    size = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
    return max(1, min(_MAX_ROWS, _MAX_BATCH_BYTES * metadata.num_rows // max(1, size)))


def _class_folder(value: Any, names: list[str]) -> list[str]:
    """The class as a folder's name; none for the label −1, which published test images have."""
    if value is None or (isinstance(value, int) and value < 0):
        return []
    name = names[value] if isinstance(value, int) and value < len(names) else str(value)
    # A slash would end the name of the folder; this sign looks the same.
    return [printable(name).replace("/", "\u2215")] if name else []


def _columns(schema: Any, path: Path) -> tuple[str, str | None, list[str]]:
    """Names of the columns of images and labels (None without labels), and the names of the classes by label."""
    features = _features(schema)
    images = [name for name, feature in features.items() if feature.get("_type") == "Image" and name in schema.names]
    images += [name for name in _IMAGE_COLUMNS if name in schema.names and _holds_bytes(schema.field(name).type)]
    images += [name for name in schema.names if "bytes" in _fields(schema.field(name).type)]
    if not images:
        raise InputError(
            f"data.source=folder:{path.name}: has no column of images among {', '.join(schema.names)[:200]}; name one "
            f"{_IMAGE_COLUMNS[0]}, with the bytes of image files"
        )
    labels = [name for name, feature in features.items() if feature.get("_type") == "ClassLabel"]
    labels = [name for name in _LABEL_COLUMNS if name in labels] + labels
    labels += [name for name in _LABEL_COLUMNS if not labels]
    label = next((name for name in labels if name in schema.names), None)
    names = features.get(label or "", {}).get("names") or []
    return images[0], label, [str(name) for name in names]


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _fields(kind: Any) -> list[str]:
    return [kind.field(index).name for index in range(kind.num_fields)] if str(kind).startswith("struct") else []


def _holds_bytes(kind: Any) -> bool:
    return str(kind) in ("binary", "large_binary") or "bytes" in _fields(kind)
