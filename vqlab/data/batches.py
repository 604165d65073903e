"""Batches from memory: crop and flip on whole batches, every step reproducible on its own."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from vqlab.data.images import Images

Batch = tuple[Float[Tensor, "B 3 H W"], Int64[Tensor, " B"]]


def seeded_generator(*numbers: int, device: str = "cpu") -> torch.Generator:
    """A generator on ``device`` that ``numbers`` alone decide: a seed, and an epoch or a step."""
    seed = 0
    for number in numbers:
        seed = (seed * 6_364_136_223 + number + 1_442_695) % (2**63)
    return torch.Generator(device).manual_seed(seed)


def crop_and_flip(
    pixels: UInt8[Tensor, "B 3 H W"], padding: int, generator: torch.Generator
) -> UInt8[Tensor, "B 3 H W"]:
    """Random crops after ``padding`` reflected pixels, half of them mirrored left to right."""
    count, channels, height, width = pixels.shape
    shifts = torch.randint(-padding, padding + 1, (2, count, 1), generator=generator)
    flip = torch.rand(count, 1, generator=generator) < 0.5
    rows = _reflect(torch.arange(height) + shifts[0], height)
    columns = _reflect(torch.arange(width) + shifts[1], width)
    columns = torch.where(flip, columns.flip(1), columns)
    flat = (rows[:, :, None] * width + columns[:, None, :]).reshape(count, 1, -1).expand(-1, channels, -1)
    return pixels.flatten(2).gather(2, flat).view_as(pixels)


def _reflect(index: Tensor, size: int) -> Tensor:
    index = index.abs()
    return torch.where(index >= size, 2 * (size - 1) - index, index)


def to_float(pixels: UInt8[Tensor, "B 3 H W"], device: str) -> Float[Tensor, "B 3 H W"]:
    """uint8 0…255 to float32 in [0, 1] on ``device``."""
    return pixels.to(device).float().div_(255)


def batches(
    images: Images, batch_size: int, *, seed: int, epoch: int, augment: bool, crop_padding: int = 2,
    start: int = 0, device: str = "cpu",
) -> Iterator[Batch]:  # fmt: skip
    """One epoch in shuffled order; the last batch may be short. ``start``: first step to yield.

    The order depends on (seed, epoch), a batch's crops on (seed, epoch, step) alone.
    """
    order = torch.randperm(len(images), generator=seeded_generator(seed, epoch))
    for step, chosen in enumerate(order.split(batch_size)):
        if step < start:
            continue
        pixels = images.pixels[chosen]
        if augment:
            pixels = crop_and_flip(pixels, crop_padding, seeded_generator(seed, epoch, step))
        yield to_float(pixels, device), images.labels[chosen].to(device)


def ordered_batches(images: Images, batch_size: int, device: str = "cpu") -> Iterator[Batch]:
    """All images once, in their order, unchanged."""
    for pixels, labels in zip(images.pixels.split(batch_size), images.labels.split(batch_size), strict=True):
        yield to_float(pixels, device), labels.to(device)
