"""Images in memory: what every source yields."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Images:
    """pixels: uint8 (N, 3, H, W), 0…255. labels: int64 (N,), places in ImageData.class_names."""

    pixels: UInt8[Tensor, "N 3 H W"]
    labels: Int64[Tensor, " N"]

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def variance(self) -> float:
        """Variance over all pixels and channels on [0, 1], from the exact counts of the 256 values."""
        counts = torch.bincount(self.pixels.flatten(), minlength=256).double()
        values = torch.arange(256, dtype=torch.float64) / 255
        share = counts / counts.sum()
        return float((share * (values - (share * values).sum()).square()).sum())

    def evenly_spaced(self, count: int) -> Float[Tensor, "n 3 H W"]:
        """``count`` images (all, where there are fewer) in [0, 1], evenly spaced: sets may be sorted by class."""
        chosen = torch.linspace(0, len(self) - 1, min(count, len(self))).long()
        return self.pixels[chosen].float() / 255

    def subset(self, limit: int | None) -> Images:
        """The first ``limit`` images of a shuffle with seed 0; all for None."""
        if limit is None or limit >= len(self):
            return self
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(0))[:limit]
        return Images(self.pixels[order], self.labels[order])


@dataclass(frozen=True)
class ImageData:
    """A source, read: name to print, training and test images, what was skipped as unreadable."""

    name: str
    train: Images
    test: Images
    class_names: tuple[str, ...]
    skipped: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits of the SHA-256 over pixels and labels."""
        digest = hashlib.sha256()
        for images in (self.train, self.test):
            digest.update(images.pixels.contiguous().numpy().data)
            digest.update(images.labels.numpy().data)
        return digest.hexdigest()[:16]

    def subset(self, train: int | None, test: int | None) -> ImageData:
        """The same source with fewer images."""
        return replace(self, train=self.train.subset(train), test=self.test.subset(test))
