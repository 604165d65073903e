"""Validation images and fewer images of a set that is larger than the memory."""

from __future__ import annotations

import numpy as np
import torch

from vqlab.config import DataConfig
from vqlab.data.image_cache import CacheEntry
from vqlab.data.images import ImageData, Images
from vqlab.data.memory import memory_budget
from vqlab.data.stored_images import Order, StoredImages
from vqlab.errors import WorkError


def select_mapped(data: ImageData, config: DataConfig) -> ImageData:
    """Select images as ``hold_out`` and ``subset`` do; more than ``memory_budget`` of them go to the cache.

    Args:
        data: the images of ``load_folder``, mapped from a file.
        config: ``validation``, ``train_limit`` and ``test_limit``.

    Returns:
        The selected images.

    Raises:
        InputError: as ``ImageData.hold_out``, or if the selection is larger than the budget and cannot be stored.
    """
    train = min(config.train_limit or len(data.train), len(data.train))
    test = min(config.test_limit or len(data.test), len(data.test))
    copied = len(data.train) if config.validation else train * (train < len(data.train))
    copied += test * (test < len(data.test))
    if copied * data.train.pixels[0].numel() <= memory_budget(config.memory):
        return data.hold_out(config.validation).subset(config.train_limit, config.test_limit)
    return _stored_selection(data, config)


def _stored_selection(data: ImageData, config: DataConfig) -> ImageData:
    assert data.mapped is not None
    name = f"{config.validation}v{config.train_limit or 0}t{config.test_limit or 0}"
    entry, source = CacheEntry(data.mapped.with_name(f"{data.mapped.name}-{name}")), CacheEntry(data.mapped)
    if (selected := entry.read(memory_budget(config.memory))) is not None:
        return selected.to_data(data.name)
    try:
        with entry.lock(data.name):
            selected = entry.read(memory_budget(config.memory))
            if selected is None and (whole := source.read(0)) is not None:
                try:
                    entry.start()
                    entry.finish(whole, _selected_rows(whole, config))
                finally:
                    entry.discard()
                selected = entry.read(memory_budget(config.memory))
    except OSError as error:
        raise _too_large(config, error.strerror or str(error)) from None
    if selected is None:
        raise _too_large(config, "the file that was written cannot be read")
    return selected.to_data(data.name)


def _selected_rows(whole: StoredImages, config: DataConfig) -> Order:
    """Rows of each part, by the operations on images, here of no pixels and with row numbers as labels."""
    parts = {
        part: Images(torch.empty(stop - start, 1, 0, 0, dtype=torch.uint8), torch.arange(start, stop))
        for part, (start, stop) in whole.parts.items()
    }
    validation = parts["validation"] if len(parts["validation"]) else None
    numbers = ImageData("", parts["train"], parts["test"], (), validation=validation)
    selected = numbers.hold_out(config.validation).subset(config.train_limit, config.test_limit)
    found = {"train": selected.train, "validation": selected.validation, "test": selected.test}
    return {part: np.array([], np.int64) if images is None else images.labels.numpy() for part, images in found.items()}


def _too_large(config: DataConfig, reason: str) -> WorkError:
    return WorkError(
        f"data.source={config.source}: the selected images do not fit the memory, and the cache folder cannot be "
        f"written ({reason}); set VQLAB_CACHE to a folder with enough space"
    )
