"""Images in memory, as every data source provides them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from vqlab.data.uncropped import UncroppedImages
from vqlab.errors import InputError

_CHUNK_BYTES = 16 << 20


@dataclass(frozen=True)
class Images:
    """Images of one size with a label each, on the CPU.

    Attributes:
        pixels: uint8 (N, C, H, W), 0…255; C is 3, or 1 for grey images.
        labels: int64 (N,), indices into ``ImageData.class_names``.
        uncropped: the same images before they were cropped, for random crops; None where they are not kept.
    """

    pixels: UInt8[Tensor, "N C H W"]
    labels: Int64[Tensor, " N"]
    uncropped: UncroppedImages | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def nbytes(self) -> int:
        """Size of the pixels, bytes, with those before they were cropped."""
        return self.pixels.numel() + (0 if self.uncropped is None else self.uncropped.nbytes)

    @property
    def variance(self) -> float:
        """Population variance of all pixel values on [0, 1], in float64."""
        counts = torch.zeros(256, dtype=torch.int64)
        for part in self._chunks():
            counts += torch.bincount(part.flatten(), minlength=256)
        values = torch.arange(256, dtype=torch.float64) / 255
        share = counts.double() / counts.sum()
        return float((share * (values - (share * values).sum()).square()).sum())

    def _chunks(self) -> Iterator[UInt8[Tensor, "n C H W"]]:
        """The pixels in pieces of 16 MiB, so that work on them needs little memory."""
        return iter(self.pixels.split(max(1, _CHUNK_BYTES // max(1, self.pixels[:1].numel()))))

    def _buffers(self) -> Iterator[memoryview]:
        """The bytes of all pixels, then of all labels, then of the images before they were cropped."""
        yield from (part.contiguous().numpy().data for part in self._chunks())
        yield self.labels.numpy().data
        yield from () if self.uncropped is None else self.uncropped.buffers()

    def evenly_spaced(self, count: int) -> Float[Tensor, "n C H W"]:
        """Select images at evenly spaced indices, so that a data set sorted by class gives images of all classes.

        Args:
            count: how many, at least 1.

        Returns:
            ``count`` images in [0, 1], or all if there are fewer.

        Example:
            >>> pixels = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 3, 1, 1)
            >>> (255 * Images(pixels, torch.zeros(5).long()).evenly_spaced(3)[:, 0, 0, 0]).tolist()
            [0.0, 2.0, 4.0]
        """
        indices = torch.linspace(0, len(self) - 1, min(count, len(self))).long()
        return self.pixels[indices].float() / 255

    def split(self, count: int) -> tuple[Images, Images]:
        """Divide the images by a shuffle with seed 0.

        Args:
            count: images in the first part, at most ``len(self)``.

        Returns:
            The first ``count`` images of the shuffle, and all others.

        Example:
            >>> images = Images(torch.zeros(5, 3, 1, 1, dtype=torch.uint8), torch.arange(5))
            >>> [len(part) for part in images.split(2)]
            [2, 3]
        """
        order = self._shuffle()
        return self._select(order[:count]), self._select(order[count:])

    def section(self, rows: slice) -> Images:
        """Select neighbouring images, without a copy and without those before they were cropped.

        Args:
            rows: which.

        Returns:
            A view of the images.
        """
        return Images(self.pixels[rows], self.labels[rows])

    def subset(self, limit: int | None) -> Images:
        """Select the first images of a shuffle with seed 0.

        Args:
            limit: how many at most; None for all, in their order.

        Returns:
            The selected images.
        """
        if limit is None or limit >= len(self):
            return self
        return self._select(self._shuffle()[:limit])

    def to_grey(self) -> Images:
        """Replace colours by their luma, as Pillow does: 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), rounded.

        Returns:
            Images of one channel; grey images as they are.

        Example:
            >>> red = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1)
            >>> Images(red, torch.tensor([0])).to_grey().pixels.flatten()
            tensor([76], dtype=torch.uint8)
        """
        if self.pixels.shape[1] == 1:
            return self
        return Images(torch.cat([_luma(part) for part in self._chunks()]), self.labels)

    def _shuffle(self) -> Int64[Tensor, " N"]:
        return torch.randperm(len(self), generator=torch.Generator().manual_seed(0))

    def _select(self, indices: Int64[Tensor, " n"]) -> Images:
        uncropped = None if self.uncropped is None else self.uncropped.select(indices.numpy())
        return Images(self.pixels[indices], self.labels[indices], uncropped)


def _luma(pixels: UInt8[Tensor, "N 3 H W"]) -> UInt8[Tensor, "N 1 H W"]:
    """Luma in Pillow's integer arithmetic: weights of 16 bits, rounded half up."""
    weights = torch.tensor([19_595, 38_470, 7_471], dtype=torch.int32).view(3, 1, 1)
    return ((pixels.int() * weights).sum(1, keepdim=True) + 0x8000 >> 16).byte()


@dataclass(frozen=True)
class ImageData:
    """Training and test images of a data source.

    Attributes:
        name: name of the source, for tables and figures.
        train: training images.
        test: test images.
        class_names: names of the classes, by label.
        skipped: names of unreadable files that were left out.
        validation: images kept out of the training images, for choices; None without any.
        notes: what was decided about the source, a sentence each.
        sizes: number of image files by ``WIDTHxHEIGHT``, most frequent first; empty for arrays and the sources of the
            package.
        modes: number of image files by Pillow's mode, likewise.
        mapped: folder of the file from which the pixels are mapped; None if they are in memory.
        known_fingerprint: the fingerprint, if it is stored with the images; None computes it.
        skip_reasons: each of ``skipped`` with what is wrong with it.
    """

    name: str
    train: Images
    test: Images
    class_names: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    validation: Images | None = None
    notes: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    modes: Mapping[str, int] = field(default_factory=dict)
    mapped: Path | None = None
    known_fingerprint: str | None = None
    skip_reasons: tuple[str, ...] = ()

    @property
    def held_out(self) -> Images:
        """The images that are measured during training: the validation images, or the test images without any."""
        return self.test if self.validation is None else self.validation

    @cached_property
    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of all pixels and labels."""
        if self.known_fingerprint is not None:
            return self.known_fingerprint
        digest = hashlib.sha256()
        for images in (self.train, self.test, *([] if self.validation is None else [self.validation])):
            for buffer in images._buffers():
                digest.update(buffer)
        return digest.hexdigest()[:16]

    def hold_out(self, count: int) -> ImageData:
        """Move training images to the validation images, by ``Images.split``.

        Args:
            count: how many images; 0 for none.

        Returns:
            The same source with ``count`` validation images.

        Raises:
            InputError: if no training image would remain.
        """
        if not count:
            return self
        if self.validation is not None:
            raise InputError(f"data.validation={count}: {self.name} has validation images of its own; set 0")
        if count >= len(self.train):
            raise InputError(
                f"data.validation={count}: must be below the {len(self.train)} training images of {self.name}; lower it"
            )
        validation, train = self.train.split(count)
        return replace(self, train=train, validation=validation, known_fingerprint=None)

    def to_grey(self) -> ImageData:
        """Replace colours by their luma, see ``Images.to_grey``.

        Returns:
            The same source with images of one channel.
        """
        if self.train.pixels.shape[1] == 1:
            return self
        validation = None if self.validation is None else self.validation.to_grey()
        train, test = self.train.to_grey(), self.test.to_grey()
        return replace(self, train=train, test=test, validation=validation, known_fingerprint=None)

    def subset(self, train_limit: int | None, test_limit: int | None) -> ImageData:
        """Select fewer images by ``Images.subset``.

        Args:
            train_limit: how many training images at most; None for all.
            test_limit: how many test images at most; None for all.

        Returns:
            The same source with the selected images.
        """
        train, test = self.train.subset(train_limit), self.test.subset(test_limit)
        if train is self.train and test is self.test:
            return self
        return replace(self, train=train, test=test, known_fingerprint=None)
