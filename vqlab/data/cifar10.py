"""CIFAR-10 through torchvision: downloaded once, its checksum checked."""

from __future__ import annotations

import numpy as np
import torch

from vqlab.data.cache import cache_folder
from vqlab.data.images import ImageData, Images
from vqlab.errors import InputError


def load_cifar10() -> ImageData:
    """All 60,000 images; raises InputError that says what to do where they cannot be downloaded."""
    from torchvision.datasets import CIFAR10

    root = cache_folder() / "cifar10"
    try:
        train, test = (CIFAR10(root, train=part, download=True) for part in (True, False))
    except (OSError, RuntimeError):
        raise InputError(
            "data cifar10: could not be downloaded; put cifar-10-python.tar.gz into the folder cifar10 of "
            "$VQLAB_CACHE (default ~/.cache/vqlab), or use --data folder:PATH with train/ and test/ class folders"
        ) from None
    return ImageData(
        "CIFAR-10", _images(train.data, train.targets), _images(test.data, test.targets), tuple(train.classes)
    )


def _images(pixels: np.ndarray, targets: list[int]) -> Images:
    return Images(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.tensor(targets))
