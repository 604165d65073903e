"""Image sources and in-memory batches."""

from vqlab.config import DataConfig
from vqlab.data.batches import batches, ordered_batches
from vqlab.data.images import ImageData, Images
from vqlab.errors import InputError

__all__ = ["ImageData", "Images", "batches", "load_data", "ordered_batches"]


def load_data(config: DataConfig) -> ImageData:
    """The images that ``config`` names; raises InputError for what cannot be read."""
    from vqlab.data.cifar10 import load_cifar10
    from vqlab.data.folder import load_folder
    from vqlab.data.photos import load_photos

    if config.source == "photos":
        data = load_photos(config.image_size)
    elif config.source == "cifar10":
        if config.image_size != 32:
            raise InputError(f"data.image_size={config.image_size}: CIFAR-10 is 32 pixels; set 32")
        data = load_cifar10()
    else:
        data = load_folder(config.source.removeprefix("folder:"), config.image_size, config.on_broken)
    return data.subset(config.train_limit, config.test_limit)
