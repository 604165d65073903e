"""CIFAR-10 from its archive, which is downloaded once; torchvision reads its files after comparing their checksums."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import UInt8

from vqlab.data.cache import cache_folder
from vqlab.data.download import PublishedFile, fetch, one_process
from vqlab.data.images import ImageData, Images
from vqlab.errors import WorkError

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

_FOLDER = "cifar10"
_MAX_BYTES = 192 << 20


def load_cifar10() -> ImageData:
    """Load CIFAR-10, and download it if the cache folder does not have it.

    Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.

    Returns:
        50,000 training and 10,000 test images of 32×32 pixels, 10 classes.

    Raises:
        WorkError: if the images are not in the cache folder and cannot be downloaded.
    """
    folder = cache_folder() / _FOLDER
    try:
        train, test = _read(folder) or _extract(folder)
    except WorkError as error:
        raise WorkError(
            f"data.source=cifar10: {error}, or use --data folder:PATH with train/ and test/ class folders"
        ) from None
    return ImageData(
        "CIFAR-10", _images(train.data, train.targets), _images(test.data, test.targets), tuple(train.classes)
    )


def _read(folder: Path) -> tuple[CIFAR10, CIFAR10] | None:
    """Training and test part; None if a file is missing or has another checksum."""
    from torchvision.datasets import CIFAR10

    with suppress(RuntimeError):
        return CIFAR10(folder, train=True), CIFAR10(folder, train=False)
    return None


def _extract(folder: Path) -> tuple[CIFAR10, CIFAR10]:
    """Download and extract the archive, unless another process has done so."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import extract_archive

    archive = fetch(PublishedFile(CIFAR10.filename, _FOLDER, CIFAR10.url, f"md5:{CIFAR10.tgz_md5}", _MAX_BYTES))
    with one_process(folder / CIFAR10.base_folder, f"{archive.name}: is being extracted by another process; waiting"):
        if (parts := _read(folder)) is None:
            extract_archive(str(archive), str(folder))
            parts = _read(folder)
    if parts is None:
        raise WorkError(f"{folder}: its files differ from those of {archive.name}; remove the folder and try again")
    return parts


def _images(pixels: UInt8[np.ndarray, "N H W 3"], targets: list[int]) -> Images:
    return Images(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.tensor(targets))
