"""Many image files to pixels of one size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from vqlab.data.decode import decode_image, fit_image, scale_image
from vqlab.data.files import MAX_BYTES, File
from vqlab.errors import InputError

if TYPE_CHECKING:
    from vqlab.config import DataConfig, Fit


class Fitting(NamedTuple):
    """What images are brought to; a process that decodes needs no more of a Config.

    Attributes:
        height: height of an image, pixels.
        width: width of an image, pixels.
        fit: as for ``vqlab.data.decode.fit_image``.
        channels: likewise.
        uncropped: whether the images are also kept as ``vqlab.data.decode.scale_image`` gives them.
    """

    height: int
    width: int
    fit: Fit
    channels: int
    uncropped: bool = False

    @classmethod
    def of(cls, config: DataConfig) -> Fitting:
        """Take the values from a Config.

        Args:
            config: the size and channels of an image, and ``fit``.

        Returns:
            The values.
        """
        channels, height, width = config.shape
        return cls(height, width, config.fit, channels, config.random_crop)

    @property
    def image_bytes(self) -> int:
        """Size of the pixels of an image, bytes; with ``uncropped`` that of one twice as long as it is high."""
        return self.channels * self.height * self.width * (3 if self.uncropped else 1)


@dataclass
class DecodedBatch:
    """Pixels of some files.

    Attributes:
        names: names of the readable files.
        pixels: one uint8 array (C, H, W) for each name.
        broken: name and message of each unreadable file.
        sizes: number of files by ``WIDTHxHEIGHT``.
        modes: number of files by Pillow's mode.
        fitted: number of images by size before they were fitted, of those that had another size.
        uncropped: uint8 arrays (C, h, w) of different sizes, one for each name; empty without ``Fitting.uncropped``.
    """

    names: list[str] = field(default_factory=list)
    pixels: list[UInt8[np.ndarray, "C H W"]] = field(default_factory=list)
    broken: list[tuple[str, str]] = field(default_factory=list)
    sizes: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    fitted: Counter[str] = field(default_factory=Counter)
    uncropped: list[UInt8[np.ndarray, "C h w"]] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Return all but the pixels as JSON values.

        Returns:
            Values by name; ``uncropped`` has the height and width of each image.
        """
        values = {name: getattr(self, name) for name in ("names", "broken", "sizes", "modes", "fitted")}
        return {**values, "uncropped": [image.shape[1:] for image in self.uncropped]}


def decode_batch(files: Iterable[File], fitting: Fitting) -> DecodedBatch:
    """Read, decode and fit files.

    Args:
        files: the files.
        fitting: size, and how images of another size are brought to it.

    Returns:
        Their pixels; unreadable files are listed.

    Raises:
        InputError: if an image has another size and ``fit`` is ``exact``.
    """
    batch, (height, width, fit, channels, uncropped) = DecodedBatch(), fitting

    def count(found: str, mode: str) -> None:
        batch.sizes[found] += 1
        batch.modes[mode] += 1

    for name, content, path in files:
        try:
            content = _read(path) if path is not None else content
            if content is None:
                raise InputError(f"{name}: cannot be read, or is larger than 200 MB")
            image = decode_image(content, name, header=count)[0] if isinstance(content, bytes) else content
        except InputError as error:
            batch.broken.append((name, str(error)))
            continue
        if image.size != (width, height):
            batch.fitted[f"{image.width}x{image.height}"] += 1
        batch.pixels.append(np.ascontiguousarray(fit_image(image, height, width, fit, name, [], channels)))
        if uncropped:
            batch.uncropped.append(np.ascontiguousarray(scale_image(image, height, width, channels)))
        batch.names.append(name)
    return batch


def _read(path: str) -> bytes | None:
    try:
        file = Path(path)
        return None if not file.is_file() or file.stat().st_size > MAX_BYTES else file.read_bytes()
    except OSError:
        return None
