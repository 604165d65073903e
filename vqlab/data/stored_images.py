"""Decoded images of a source with what is known of them, in memory or mapped from a file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from vqlab.data.images import ImageData, Images
from vqlab.data.uncropped import UncroppedImages

PARTS = ("train", "validation", "test")
# Rows of each part.
Order = Mapping[str, Int64[np.ndarray, " n"]]


@dataclass
class StoredImages:
    """Images of all parts, one part after the other.

    Attributes:
        pixels: all images, in memory or mapped.
        labels: their labels.
        parts: first row of each part, and the row after its last.
        class_names: names of the classes, by label.
        skipped: name and message of each unreadable file.
        notes: what was decided about the source.
        sizes: number of files by ``WIDTHxHEIGHT``.
        modes: number of files by Pillow's mode.
        fingerprint: of all images; None if it is not computed yet.
        folder: folder of the file from which the pixels are mapped; None if they are in memory.
        uncropped: the images before they were cropped, one for each row of ``pixels``; None if they are not kept.
    """

    pixels: UInt8[np.ndarray, "N C H W"]
    labels: Int64[np.ndarray, " N"]
    parts: dict[str, tuple[int, int]]
    class_names: list[str]
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    fingerprint: str | None = None
    folder: Path | None = None
    uncropped: UncroppedImages | None = None

    @classmethod
    def from_index(
        cls, pixels: np.ndarray, labels: np.ndarray, index: Mapping[str, Any], folder: Path | None,
        uncropped: UncroppedImages | None = None,
    ) -> Self:  # fmt: skip
        """Put together what a file of the cache holds.

        Args:
            pixels: all images.
            labels: their labels.
            index: the values of ``index``.
            folder: folder of the mapped file; None if the pixels are in memory.
            uncropped: the images before they were cropped; None (default) if they are not kept.

        Returns:
            The images.
        """
        return cls(
            pixels, labels, {part: (int(start), int(stop)) for part, (start, stop) in index["parts"].items()},
            index["class_names"], [(name, message) for name, message in index["skipped"]], index["notes"],
            index["sizes"], index["modes"], index.get("fingerprint"), folder, uncropped,
        )  # fmt: skip

    def index(self) -> dict[str, Any]:
        """List all but pixels and labels as JSON values.

        Returns:
            Values by name.
        """
        names = ("parts", "class_names", "skipped", "notes", "sizes", "modes")
        return {name: getattr(self, name) for name in names}

    def to_data(self, name: str) -> ImageData:
        """Hand the images on without copying them.

        Args:
            name: name of the source.

        Returns:
            The images of all parts.
        """
        with warnings.catch_warnings():
            # torch warns of arrays that cannot be written; nothing writes into images.
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            pixels = torch.from_numpy(self.pixels)
        parts = {part: self._part(part, pixels, *self.parts[part]) for part in PARTS}
        return ImageData(
            name, parts["train"], parts["test"], tuple(self.class_names), tuple(name for name, _ in self.skipped),
            parts["validation"] if len(parts["validation"]) else None, tuple(self.notes),
            self.sizes, self.modes, self.folder, self.fingerprint, tuple(message for _, message in self.skipped),
        )  # fmt: skip

    def _part(self, part: str, pixels: UInt8[Tensor, "N C H W"], start: int, stop: int) -> Images:
        kept = self.uncropped if part == "train" else None
        uncropped = None if kept is None else kept.select(slice(start, stop))
        return Images(pixels[start:stop], torch.from_numpy(self.labels[start:stop]), uncropped)
