"""The embedded source: patches of the photographs that scikit-image and scikit-learn carry."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vqlab.data.images import ImageData, Images
from vqlab.errors import InputError

_SKIMAGE, _SKLEARN = ("skimage", "data"), ("sklearn", "datasets/images")
_TRAIN = {
    "astronaut": (_SKIMAGE, "astronaut.png"),
    "cat": (_SKIMAGE, "chelsea.png"),
    "rocket": (_SKIMAGE, "rocket.jpg"),
    "motorcycle": (_SKIMAGE, "motorcycle_left.png"),
    "flower": (_SKLEARN, "flower.jpg"),
}
_TEST = {"coffee": (_SKIMAGE, "coffee.png"), "temple": (_SKLEARN, "china.jpg")}
_SHRINKS = (1.0, 1.5, 2.0, 3.0, 4.0)


@lru_cache(maxsize=1)
def load_photos(size: int) -> ImageData:
    """``size``-pixel patches at five scales, half overlapping; test photographs are not training ones.

    Kept in memory: a study asks for them before every training and every evaluation.
    """
    names = (*_TRAIN, *_TEST)
    train, test = (_patches(part, names, size) for part in (_TRAIN, _TEST))
    return ImageData("photos (embedded patches)", train, test, names)


def _patches(part: dict[str, tuple[tuple[str, str], str]], names: tuple[str, ...], size: int) -> Images:
    pixels: list[np.ndarray] = []
    labels: list[int] = []
    for name, (home, file) in part.items():
        with Image.open(_path(home, file)) as photo:
            cut = _cut(photo.convert("RGB"), size)
        pixels += cut
        labels += [names.index(name)] * len(cut)
    return Images(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels))


def _path(home: tuple[str, str], file: str) -> Path:
    """The file inside the installed package, found without importing it."""
    spec = importlib.util.find_spec(home[0])
    if spec is None or spec.origin is None:
        raise InputError(f"data photos: {home[0]} is not installed; install vqlab with its dependencies")
    return Path(spec.origin).parent / home[1] / file


def _cut(photo: Image.Image, size: int) -> list[np.ndarray]:
    cut = []
    for shrink in _SHRINKS:
        small = photo.resize((round(photo.width / shrink), round(photo.height / shrink)), Image.Resampling.LANCZOS)
        pixels = np.asarray(small)
        for top in range(0, pixels.shape[0] - size + 1, size // 2):
            lefts = range(0, pixels.shape[1] - size + 1, size // 2)
            cut += [pixels[top : top + size, left : left + size] for left in lefts]
    return cut
