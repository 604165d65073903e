"""Batches of images from memory, with random crops and flips of whole batches."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64, Shaped, UInt8
from torch import Tensor

from vqlab.data.images import Images

# Training items and their labels: images, or the code grids of a prior.
Batch = tuple[Shaped[Tensor, "B ..."], Int64[Tensor, " B"]]
# Images in [0, 1] and their labels.
ImageBatch = tuple[Float[Tensor, "B C H W"], Int64[Tensor, " B"]]


def seeded_generator(*numbers: int, device: str = "cpu") -> torch.Generator:
    """Return a random generator whose state depends only on ``numbers``.

    Args:
        *numbers: a seed, and for example an epoch or a step; at least 0 each. Their order matters.
        device: device of the generator.

    Returns:
        A new generator.

    Example:
        >>> first, second = (torch.rand(3, generator=seeded_generator(0, 7)) for _ in range(2))
        >>> torch.equal(first, second)
        True
    """
    seed = 0
    for number in numbers:
        seed = (seed * 6_364_136_223 + number + 1_442_695) % (2**63)
    return torch.Generator(device).manual_seed(seed)


def crop_and_flip(
    pixels: UInt8[Tensor, "B C H W"], padding: int, generator: torch.Generator
) -> UInt8[Tensor, "B C H W"]:
    """Crop each image at a random position and flip it left to right with probability ½.

    The image is padded by reflection on every side; the crop has the size of the image.

    Args:
        pixels: images, 0…255, on the CPU.
        padding: reflected pixels on each side, from 0 (no crop) to less than H and W.
        generator: source of the random numbers, on the CPU.

    Returns:
        The augmented images.
    """
    count, channels, height, width = pixels.shape
    shifts = torch.randint(-padding, padding + 1, (2, count, 1), generator=generator)
    flip = torch.rand(count, 1, generator=generator) < 0.5
    rows = _reflect(torch.arange(height) + shifts[0], height)
    columns = _reflect(torch.arange(width) + shifts[1], width)
    columns = torch.where(flip, columns.flip(1), columns)
    indices = (rows[:, :, None] * width + columns[:, None, :]).reshape(count, 1, -1).expand(-1, channels, -1)
    return pixels.flatten(2).gather(2, indices).view_as(pixels)


def _reflect(index: Tensor, size: int) -> Tensor:
    index = index.abs()
    return torch.where(index >= size, 2 * (size - 1) - index, index)


def to_float(pixels: UInt8[Tensor, "B C H W"], device: str) -> Float[Tensor, "B C H W"]:
    """Convert 8-bit pixels to float32 in [0, 1].

    Args:
        pixels: images, 0…255.
        device: device of the result.

    Returns:
        ``pixels`` / 255 on ``device``.

    Example:
        >>> to_float(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8), "cpu").flatten()
        tensor([1., 1., 1.])
    """
    return pixels.to(device, non_blocking=True).float().div_(255)


def batches(
    images: Images, batch_size: int, *, seed: int, epoch: int, augment: bool, crop_padding: int = 2,
    start: int = 0, device: str = "cpu",
) -> Iterator[ImageBatch]:  # fmt: skip
    """Iterate over the images once in random order.

    The order depends only on (seed, epoch), the crops and flips of a batch only on (seed, epoch, step). So a resumed
    training gets the same batches as an uninterrupted one.

    Args:
        images: the images.
        batch_size: images per batch; the last batch may have fewer.
        seed: seed of order, crops and flips.
        epoch: index of the epoch; each epoch has another order.
        augment: whether to apply ``crop_and_flip``.
        crop_padding: reflected pixels on each side before the crop.
        start: index of the first batch; the batches before it are skipped.
        device: device of the batches.

    Yields:
        Images in [0, 1], (B, C, H, W), and labels, (B,).
    """
    order = torch.randperm(len(images), generator=seeded_generator(seed, epoch))
    for step, indices in enumerate(order.split(batch_size)):
        if step < start:
            continue
        pixels = images.pixels[indices]
        if augment:
            pixels = crop_and_flip(pixels, crop_padding, seeded_generator(seed, epoch, step))
        yield to_float(pixels, device), images.labels[indices].to(device, non_blocking=True)


def ordered_batches(images: Images, batch_size: int, device: str = "cpu") -> Iterator[ImageBatch]:
    """Iterate over the images once in their order, without crops and flips.

    Args:
        images: the images.
        batch_size: images per batch; the last batch may have fewer.
        device: device of the batches.

    Yields:
        Images in [0, 1], (B, C, H, W), and labels, (B,).
    """
    for pixels, labels in zip(images.pixels.split(batch_size), images.labels.split(batch_size), strict=True):
        yield to_float(pixels, device), labels.to(device, non_blocking=True)
