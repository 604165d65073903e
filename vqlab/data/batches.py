"""Batches of images from memory, with random crops and flips of whole batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float, Int64, Shaped, UInt8
from torch import Tensor

from vqlab.data.images import Images
from vqlab.data.uncropped import UncroppedImages

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
    return _shift_and_flip(pixels, *_draw_shifts(len(pixels), padding, generator))


def crop_uncropped(
    uncropped: UncroppedImages, indices: Int64[Tensor, " B"], height: int, width: int, padding: int,
    generator: torch.Generator, part: slice = slice(None), device: str = "cpu",
) -> UInt8[Tensor, "N C height width"]:  # fmt: skip
    """Crop larger images at random positions and flip each left to right with probability ½.

    Each image is padded by reflection on every side; all positions in it have the same probability.

    Args:
        uncropped: the images, at least as large as the crops.
        indices: numbers of those to crop.
        height: height of a crop, pixels.
        width: width of a crop, pixels.
        padding: reflected pixels on each side, from 0 to less than ``height`` and ``width``.
        generator: source of the random numbers, on the CPU; they are drawn for all ``indices``.
        part: those to return. Default: all.
        device: device of the result.

    Returns:
        The augmented images, 0…255.
    """
    room = uncropped.sizes(indices) - torch.tensor([[height], [width]])
    drawn = torch.rand(room.shape, generator=generator, dtype=torch.float64)
    positions = (drawn * (room + 2 * padding + 1)).long() - padding
    starts = torch.minimum(positions.clamp(min=0), room)
    flip = torch.rand(len(indices), 1, generator=generator) < 0.5
    windows = _upload(uncropped.windows(indices[part], starts[:, part], height, width), device)
    # What lies outside of the image is reflected at its border, which is there the border of the window, too.
    shifts = (positions - starts)[..., None]
    return _shift_and_flip(windows, shifts[:, part], flip[part])


def _draw_shifts(
    count: int, padding: int, generator: torch.Generator
) -> tuple[Int64[Tensor, "2 count 1"], Bool[Tensor, "count 1"]]:
    shifts = torch.randint(-padding, padding + 1, (2, count, 1), generator=generator)
    return shifts, torch.rand(count, 1, generator=generator) < 0.5


def _shift_and_flip(
    pixels: UInt8[Tensor, "B C H W"], shifts: Int64[Tensor, "2 B 1"], flip: Bool[Tensor, "B 1"]
) -> UInt8[Tensor, "B C H W"]:
    count, channels, height, width = pixels.shape
    shifts, flip = _upload(shifts, pixels.device), _upload(flip, pixels.device)
    rows = _reflect(torch.arange(height, device=pixels.device) + shifts[0], height)
    columns = _reflect(torch.arange(width, device=pixels.device) + shifts[1], width)
    columns = torch.where(flip, columns.flip(1), columns)
    indices = (rows[:, :, None] * width + columns[:, None, :]).reshape(count, 1, -1).expand(-1, channels, -1)
    return pixels.flatten(2).gather(2, indices).view_as(pixels)


def _reflect(index: Tensor, size: int) -> Tensor:
    index = index.abs()
    return torch.where(index >= size, 2 * (size - 1) - index, index)


def _upload(values: Tensor, device: str | torch.device) -> Tensor:
    """Begin a copy to a device: from pinned memory, so that the host goes on to the next batch."""
    if torch.device(device).type == "cuda" and not values.is_cuda:
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


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
    return _upload(pixels, device).float().div_(255)


def batches(
    images: Images, batch_size: int, *, seed: int, epoch: int, augment: bool, crop_padding: int = 2,
    random_crop: bool = False, start: int = 0, device: str = "cpu", part: Callable[[int], slice] | None = None,
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
        random_crop: whether ``augment`` crops ``images.uncropped``, if that is kept, by ``crop_uncropped``. Default
            False.
        start: index of the first batch; the batches before it are skipped.
        device: device of the batches.
        part: selects the images of this process from the number of a batch's images; crops and flips are those of the
            whole batch. Default None: all.

    Yields:
        Images in [0, 1], (B, C, H, W), and labels, (B,).
    """
    order = torch.randperm(len(images), generator=seeded_generator(seed, epoch))
    for step, indices in enumerate(order.split(batch_size)):
        if step < start:
            continue
        generator = seeded_generator(seed, epoch, step)
        own = slice(None) if part is None else part(len(indices))
        if augment and random_crop and images.uncropped is not None:
            height, width = images.pixels.shape[2:]
            pixels = crop_uncropped(images.uncropped, indices, height, width, crop_padding, generator, own, device)
        else:
            pixels = _upload(images.pixels[indices[own]], device)
            if augment:
                shifts, flip = _draw_shifts(len(indices), crop_padding, generator)
                pixels = _shift_and_flip(pixels, shifts[:, own], flip[own])
        yield to_float(pixels, device), _upload(images.labels[indices[own]], device)


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
        yield to_float(pixels, device), _upload(labels, device)
