"""CIFAR-10 through torchvision, which downloads it once and verifies its checksum."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import UInt8

from vqlab.data.cache import cache_folder
from vqlab.data.images import ImageData, Images
from vqlab.errors import WorkError


def load_cifar10() -> ImageData:
    """Load CIFAR-10, and download it if the cache folder does not have it.

    Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.

    Returns:
        50,000 training and 10,000 test images of 32×32 pixels, 10 classes.

    Raises:
        WorkError: if the images are not in the cache folder and cannot be downloaded.
    """
    from torchvision.datasets import CIFAR10

    try:
        root = cache_folder() / "cifar10"
        train, test = (CIFAR10(root, train=is_train, download=True) for is_train in (True, False))
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WorkError(
            f"data.source=cifar10: could not be downloaded ({reason}); put cifar-10-python.tar.gz into the folder "
            "cifar10 of $VQLAB_CACHE (default ~/.cache/vqlab), or use --data folder:PATH with train/ and "
            "test/ class folders"
        ) from None
    return ImageData(
        "CIFAR-10", _images(train.data, train.targets), _images(test.data, test.targets), tuple(train.classes)
    )


def _images(pixels: UInt8[np.ndarray, "N H W 3"], targets: list[int]) -> Images:
    return Images(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.tensor(targets))
