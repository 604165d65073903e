"""Images of NumPy files: one array, or arrays of parts with their labels."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import Image

from vqlab.data.files import MAX_BYTES, File, ImageSource, ReadPosition, file_stamp
from vqlab.data.memory import memory_budget
from vqlab.errors import InputError, WorkError

ARRAY_SUFFIXES = (".npy", ".npz")
# Names of images and labels, by part, as sets of images are published.
_NAMES = {
    "train": (("x_train", "train_images", "train_x"), ("y_train", "train_labels", "train_y")),
    "validation": (("x_val", "val_images", "val_x"), ("y_val", "val_labels", "val_y")),
    "test": (("x_test", "test_images", "test_x"), ("y_test", "test_labels", "test_y")),
    "": (("images", "x", "arr_0"), ("labels", "y", "arr_1")),
}
_CHUNK_BYTES = 16 << 20


class _Header(NamedTuple):
    """What the beginning of a .npy file says; its size is that of the content."""

    shape: tuple[int, ...]
    in_columns: bool
    kind: np.dtype


class _Part(NamedTuple):
    name: str
    shape: tuple[int, ...]
    rows: Iterator[np.ndarray]
    labels: np.ndarray | None


def list_arrays(source: Path) -> ImageSource:
    """List the images of a .npy or .npz file, without reading them.

    Args:
        source: the file, as for ``array_images``.

    Returns:
        The images.
    """

    def files(position: ReadPosition) -> Iterator[File]:
        for name, image, share in array_images(source):
            yield File(name, image)
            position.share = share

    return ImageSource((file_stamp(source),), files)


def array_images(source: Path) -> Iterator[tuple[str, Image.Image, float]]:
    """Iterate over the images of a .npy or .npz file; nothing is unpickled, and no array is read whole.

    Args:
        source: the file. A .npy file has uint8 images (N, H, W), (N, H, W, C) or (N, C, H, W), C 1, 3 or 4; a .npz file
            such arrays named x_train, train_images, images or the like, and labels named y_train, train_labels, labels.

    Yields:
        A name, ``PART/LABEL/NUMBER`` as far as part and label are known, the image in mode RGB, and the share of the
        array that is read.

    Raises:
        InputError: if the file is damaged, or has no array of such a name, type and shape.
    """
    with _damage_named(source):
        for part, shape, rows, labels in _npz_parts(source) if zipfile.is_zipfile(source) else _npy_part(source):
            if labels is not None and len(labels) != shape[0]:
                raise InputError(f"data.source=folder:{source.name}: {shape[0]} images, but {len(labels)} labels")
            for number, pixels in enumerate(rows):
                folders = [part, str(labels[number]) if labels is not None else ""]
                name = "/".join([*filter(None, folders), f"{number:08d}"])
                yield name, Image.fromarray(pixels).convert("RGB"), (number + 1) / shape[0]


def _npy_part(source: Path) -> Iterator[_Part]:
    with source.open("rb") as file:
        header = _read_header(file, source.stat().st_size)
        if header.in_columns:
            mapped = np.memmap(source, header.kind, "r", file.tell(), header.shape, "F")
            yield _Part("", header.shape, _pictures([mapped], header, source), None)
        else:
            yield _Part("", header.shape, _pictures(_chunks(file, header), header, source), None)


def _npz_parts(source: Path) -> Iterator[_Part]:
    with zipfile.ZipFile(source) as archive:
        stored = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        for member in archive.infolist():
            archive.open(member).close()  # compares the name with that beside the content
        found = False
        for part, (image_names, label_names) in _NAMES.items():
            images, label = (next((stored[name] for name in names if name in stored), None)
                             for names in (image_names, label_names))  # fmt: skip
            if images is None:
                continue
            found = True
            labels = None if label is None else _read_labels(archive, label, source)
            with archive.open(images) as file:
                header = _read_header(file, images.file_size)
                if header.in_columns and images.file_size > memory_budget():
                    raise InputError(
                        f"data.source=folder:{source.name}: has images in Fortran order; store them in C order"
                    )
                yield _Part(part, header.shape, _pictures(_chunks(file, header), header, source), labels)
    if not found:
        names = ", ".join(names[0] for names, _ in _NAMES.values())
        raise InputError(f"data.source=folder:{source.name}: has no array of images; name one of {names}")


def _read_header(file: io.BufferedIOBase | IO[bytes], size: int) -> _Header:
    """Read the beginning of a .npy file; ValueError if the array does not have the size of the file."""
    versions = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in versions:
        raise ValueError(f"format {version[0]}.{version[1]}")
    header = _Header(*versions[version](file))
    if header.kind.hasobject:
        raise ValueError("Python objects are not read")
    claimed = file.tell() + header.kind.itemsize * int(np.prod(np.array(header.shape, object)))
    if claimed != size:
        raise ValueError(f"{size} bytes, of which {claimed} are described")
    return header


def _chunks(file: io.BufferedIOBase | IO[bytes], header: _Header) -> Iterator[np.ndarray]:
    """The rows of an array, some at a time; all at once if its first index is the fastest."""
    count, *rest = header.shape
    row_bytes = int(np.prod(rest)) * header.kind.itemsize
    step = count if header.in_columns else max(1, _CHUNK_BYTES // max(1, row_bytes))
    for start in range(0, count, step):
        rows = min(step, count - start)
        content = file.read(rows * row_bytes)
        if len(content) != rows * row_bytes:
            raise EOFError("cut short")
        yield np.frombuffer(content, header.kind).reshape((rows, *rest), order="F" if header.in_columns else "C")
    file.read(1)  # a .npz file compares the checksum at the end


def _read_labels(archive: zipfile.ZipFile, member: zipfile.ZipInfo, source: Path) -> np.ndarray:
    with archive.open(member) as file:
        header = _read_header(file, member.file_size)
        if header.kind.kind not in "biufUS" or int(np.prod(header.shape[1:])) != 1 or not header.shape:
            raise InputError(
                f"data.source=folder:{source.name}: labels {header.kind} of shape {header.shape}, must be numbers or "
                "text (N,) or (N, 1); convert them"
            )
        if member.file_size > MAX_BYTES:
            raise InputError(f"data.source=folder:{source.name}: labels of more than 200 MB; store them as int64")
        return np.concatenate([np.empty(0, header.kind), *(chunk.reshape(-1) for chunk in _chunks(file, header))])


def _pictures(chunks: Iterator[np.ndarray] | list[np.ndarray], header: _Header, source: Path) -> Iterator[np.ndarray]:
    """Each image, (H, W) or (H, W, C)."""
    channels = _channel_axis(header)
    if channels is None or int(np.prod(header.shape[1:])) > MAX_BYTES:
        raise InputError(
            f"data.source=folder:{source.name}: {header.kind} of shape {header.shape}, must be uint8 (N, H, W), "
            "(N, H, W, C) or (N, C, H, W) with 1, 3 or 4 channels; convert it"
        )
    for chunk in chunks:
        images = np.moveaxis(chunk, channels, -1) if channels else chunk[..., None]
        for pixels in images:
            yield np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _channel_axis(header: _Header) -> int | None:
    """The axis of the channels; 0 for images without one, None for an array that has no images."""
    if header.kind != np.uint8 or len(header.shape) not in (3, 4) or 0 in header.shape[1:]:
        return None
    if len(header.shape) == 3:
        return 0
    return next((axis for axis in (3, 1) if header.shape[axis] in (1, 3, 4)), None)


@contextmanager
def _damage_named(source: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # zipfile and NumPy raise many kinds of errors on damaged files.
        reason = " ".join(str(error).split())[:200]
        raise WorkError(
            f"data.source=folder:{source.name}: is not a whole NumPy file ({reason}); replace the file"
        ) from None
