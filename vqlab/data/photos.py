"""The data source that needs no download: patches of photographs in scikit-image and scikit-learn."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from vqlab.data.images import ImageData, Images
from vqlab.errors import InputError

# Package and folder inside it.
_SKIMAGE, _SKLEARN = ("skimage", "data"), ("sklearn", "datasets/images")
_TRAIN = {
    "astronaut": (_SKIMAGE, "astronaut.png"),
    "cat": (_SKIMAGE, "chelsea.png"),
    "rocket": (_SKIMAGE, "rocket.jpg"),
    "motorcycle": (_SKIMAGE, "motorcycle_left.png"),
    "flower": (_SKLEARN, "flower.jpg"),
}
_TEST = {"coffee": (_SKIMAGE, "coffee.png"), "temple": (_SKLEARN, "china.jpg")}
_DOWNSCALES = (1.0, 1.5, 2.0, 3.0, 4.0)


@lru_cache(maxsize=1)
def load_photos(height: int, width: int) -> ImageData:
    """Extract patches of the photographs at five scales, with a stride of half a patch.

    The five training photographs and the two test photographs are different, and each is a class of its own. The
    result of the last call stays in memory, because a study loads it before every training and every evaluation.

    Args:
        height: height of a patch, pixels.
        width: width of a patch, pixels.

    Returns:
        Training and test patches; the label of a patch is its photograph.

    Raises:
        InputError: if scikit-image or scikit-learn is not installed, or the photographs of a part are smaller than a
            patch.
    """
    class_names = (*_TRAIN, *_TEST)
    train, test = (_load_patches(photos, class_names, height, width) for photos in (_TRAIN, _TEST))
    return ImageData("photos (embedded patches)", train, test, class_names)


def _load_patches(
    photos: dict[str, tuple[tuple[str, str], str]], class_names: tuple[str, ...], height: int, width: int
) -> Images:
    pixels: list[np.ndarray] = []
    labels: list[int] = []
    for name, ((package, folder), file) in photos.items():
        with Image.open(_package_folder(package) / folder / file) as photo:
            patches = _extract_patches(photo.convert("RGB"), height, width)
        pixels += patches
        labels += [class_names.index(name)] * len(patches)
    if not pixels:
        raise InputError(
            f"data.source=photos: the photographs {', '.join(photos)} have no patch of {width}x{height} pixels; use a "
            "smaller size, or your own images"
        )
    return Images(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels))


def _package_folder(package: str) -> Path:
    """The folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise InputError(f"data.source=photos: {package} is not installed; install vqlab with its dependencies")
    return Path(spec.origin).parent


def _extract_patches(photo: Image.Image, height: int, width: int) -> list[UInt8[np.ndarray, "H W 3"]]:
    patches = []
    for scale in _DOWNSCALES:
        small = photo.resize((round(photo.width / scale), round(photo.height / scale)), Image.Resampling.LANCZOS)
        pixels = np.asarray(small)
        for top in range(0, pixels.shape[0] - height + 1, height // 2):
            lefts = range(0, pixels.shape[1] - width + 1, width // 2)
            patches += [pixels[top : top + height, left : left + width] for left in lefts]
    return patches
