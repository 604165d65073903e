"""Images that are larger than what a model gets, each of its own size, in one buffer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor


@dataclass(frozen=True)
class UncroppedImages:
    """Images of different sizes.

    Attributes:
        buffer: uint8 (M,), the pixels of all images, each as (C, h, w), in memory or mapped.
        places: int64 (N, 3): offset in the buffer, height and width of each image; zeros for none.
        channels: C, 1 or 3.
    """

    buffer: UInt8[np.ndarray, " M"]
    places: Int64[np.ndarray, "N 3"]
    channels: int

    def __len__(self) -> int:
        return len(self.places)

    @property
    def nbytes(self) -> int:
        """Size of the pixels of these images, bytes."""
        return self.channels * int(self.places[:, 1:].prod(1).sum())

    def select(self, rows: slice | Int64[np.ndarray, " n"]) -> UncroppedImages:
        """Select images without copying their pixels.

        Args:
            rows: indices of the images.

        Returns:
            The images.
        """
        return UncroppedImages(self.buffer, self.places[rows], self.channels)

    def image(self, index: int) -> UInt8[np.ndarray, "C h w"]:
        """Give one image.

        Args:
            index: its number.

        Returns:
            A view of its pixels.
        """
        offset, height, width = self.places[index].tolist()
        stop = offset + self.channels * height * width
        return self.buffer[offset:stop].reshape(self.channels, height, width)

    def sizes(self, indices: Int64[Tensor, " B"]) -> Int64[Tensor, "2 B"]:
        """Give heights and widths.

        Args:
            indices: numbers of the images.

        Returns:
            Heights, then widths, pixels.
        """
        return torch.from_numpy(self.places[indices.numpy(), 1:].T)

    def windows(
        self, indices: Int64[Tensor, " B"], starts: Int64[Tensor, "2 B"], height: int, width: int
    ) -> UInt8[Tensor, "B C height width"]:
        """Copy a part of each image.

        Args:
            indices: numbers of the images.
            starts: first row and first column of each part; it must lie in the image.
            height: height of the parts, pixels.
            width: width of the parts, pixels.

        Returns:
            The parts.
        """
        copied = np.empty((len(indices), self.channels, height, width), np.uint8)
        found = zip(copied, self.places[indices.numpy()].tolist(), *starts.tolist(), strict=True)
        for window, (offset, rows, columns), top, left in found:
            image = self.buffer[offset : offset + self.channels * rows * columns].reshape(self.channels, rows, columns)
            window[...] = image[:, top : top + height, left : left + width]
        return torch.from_numpy(copied)

    def buffers(self) -> Iterator[memoryview]:
        """Iterate over all bytes, for a digest.

        Yields:
            Heights and widths, then the pixels of each image.
        """
        yield np.ascontiguousarray(self.places[:, 1:]).data
        for index in range(len(self)):
            yield self.image(index).data
