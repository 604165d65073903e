"""Images of NumPy files: one array, or arrays of parts with their labels."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from vqlab.data.files import File, ImageSource, ReadPosition, file_stamp
from vqlab.errors import InputError

ARRAY_SUFFIXES = (".npy", ".npz")
# Names of images and labels, by part, as sets of images are published.
_NAMES = {
    "train": (("x_train", "train_images", "train_x"), ("y_train", "train_labels", "train_y")),
    "validation": (("x_val", "val_images", "val_x"), ("y_val", "val_labels", "val_y")),
    "test": (("x_test", "test_images", "test_x"), ("y_test", "test_labels", "test_y")),
    "": (("images", "x", "arr_0"), ("labels", "y", "arr_1")),
}


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
    """Iterate over the images of a .npy or .npz file; nothing is unpickled.

    Args:
        source: the file. A .npy file has uint8 images (N, H, W), (N, H, W, C) or (N, C, H, W), C 1, 3 or 4; a .npz file
            such arrays named x_train, train_images, images or the like, and labels named y_train, train_labels, labels.

    Yields:
        A name, ``PART/LABEL/NUMBER`` as far as part and label are known, the image in mode RGB, and the share of the
        array that is read.

    Raises:
        InputError: if the file is damaged, or has no array of such a name, type and shape.
    """
    for part, images, labels in _parts(source):
        if labels is not None and len(labels) != len(images):
            raise InputError(f"data.source=folder:{source.name}: {len(images)} images, but {len(labels)} labels")
        for number, pixels in enumerate(_channels_last(images, source)):
            folders = [part, str(np.ravel(labels[number])[0]) if labels is not None else ""]
            name = "/".join([*filter(None, folders), f"{number:08d}"])
            image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
            yield name, image, (number + 1) / len(images)


def _parts(source: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
    try:
        stored = np.load(source, allow_pickle=False, mmap_mode="r" if source.suffix == ".npy" else None)
        if isinstance(stored, np.ndarray):
            yield "", stored, None
            return
        with stored:
            found = False
            for part, (image_names, label_names) in _NAMES.items():
                images, labels = (next((stored[name] for name in names if name in stored), None)
                                  for names in (image_names, label_names))  # fmt: skip
                if images is not None:
                    found = True
                    yield part, images, labels
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"data.source=folder:{source.name}: is not a whole NumPy file ({error})") from None
    if not found:
        names = ", ".join(names[0] for names, _ in _NAMES.values())
        raise InputError(f"data.source=folder:{source.name}: has no array of images; name one of {names}")


def _channels_last(images: np.ndarray, source: Path) -> np.ndarray:
    if images.dtype == np.uint8 and images.ndim == 3:
        return images[..., None]
    if images.dtype == np.uint8 and images.ndim == 4:
        if images.shape[-1] in (1, 3, 4):
            return images
        if images.shape[1] in (1, 3, 4):
            return images.transpose(0, 2, 3, 1)
    raise InputError(
        f"data.source=folder:{source.name}: {images.dtype} of shape {images.shape}, must be uint8 (N, H, W), "
        "(N, H, W, C) or (N, C, H, W) with 1, 3 or 4 channels; convert it"
    )
