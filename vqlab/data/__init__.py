"""Image sources, and batches of images in memory or mapped from a file."""

from vqlab.config import DataConfig
from vqlab.data.batches import batches, ordered_batches
from vqlab.data.images import ImageData, Images
from vqlab.errors import InputError

__all__ = ["ImageData", "Images", "batches", "load_data", "ordered_batches"]


def load_data(config: DataConfig) -> ImageData:
    """Load the images of a data source; those of large sets are mapped from the cache, see ``load_folder``.

    Args:
        config: source, size and channels of an image, and limits on the numbers of images.

    Returns:
        ``config.validation`` images kept out of the training images, then training and test images, at most
        ``train_limit`` and ``test_limit`` of them.

    Raises:
        InputError: if the source is missing, empty, damaged or cannot be downloaded, if an image cannot be read
            (unless ``config.on_broken`` is ``skip``), if the images do not have the size of the Config
            with ``fit=exact``, or if ``config.validation`` leaves no training image.
    """
    from vqlab.data.cifar10 import load_cifar10
    from vqlab.data.folder import load_folder
    from vqlab.data.photos import load_photos
    from vqlab.data.selection import select_mapped

    channels, height, width = config.shape
    if config.source == "photos":
        data = load_photos(height, width)
    elif config.source == "cifar10":
        for field, pixels in config.sizes.items():
            if pixels != 32:
                raise InputError(f"{field}={pixels}: must be 32 with data.source=cifar10; set 32")
        data = load_cifar10()
    else:
        data = load_folder(config)
    if data.mapped is not None:
        return select_mapped(data, config)
    if channels == 1:
        data = data.to_grey()
    return data.hold_out(config.validation).subset(config.train_limit, config.test_limit)
