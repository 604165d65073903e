"""What a data source would give: parts, classes, sizes and modes found, what is skipped, memory, a contact sheet."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from vqlab.config import DataConfig
from vqlab.data import load_data
from vqlab.data.images import ImageData, Images

_SHOWN = 10
_COLUMNS = 16
_GREY_MODES = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"}


@dataclass(frozen=True)
class DataSummary:
    """What a data source gives.

    Attributes:
        name: name of the source.
        shape: channels, height and width (pixels) of the images that a model gets.
        fit: how images of another size are brought to it.
        parts: number of images by part and class; parts without images are left out.
        sizes: number of image files by ``WIDTHxHEIGHT``, most frequent first; empty for the sources of the package.
        modes: number of image files by Pillow's mode, likewise.
        skipped: unreadable files, each with what is wrong with it.
        notes: what was decided, a sentence each.
        memory_mib: memory of the pixels, MiB.
        fingerprint: of all pixels and labels, as Runs store it.
        mapped: folder from which the pixels are mapped; None if they are in memory.
        random_crop: whether training takes a random part of each image.
    """

    name: str
    shape: tuple[int, int, int]
    fit: str
    parts: dict[str, dict[str, int]]
    sizes: dict[str, int]
    modes: dict[str, int]
    skipped: tuple[str, ...]
    notes: tuple[str, ...]
    memory_mib: float
    fingerprint: str
    mapped: str | None = None
    random_crop: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return all attributes as JSON values.

        Returns:
            Values by name.
        """
        return asdict(self)

    def __str__(self) -> str:
        place = "in memory" if self.mapped is None else f"mapped from {self.mapped}"
        lines = [f"{self.name}: fingerprint {self.fingerprint}, {self.memory_mib:.1f} MiB {place}"]
        for part, classes in self.parts.items():
            shown = ", ".join(f"{name} {count}" for name, count in list(classes.items())[:_SHOWN])
            more = f" and {len(classes) - _SHOWN} more" if len(classes) > _SHOWN else ""
            lines.append(f"{part}: {sum(classes.values())} images, classes: {shown}{more}")
        for name, found in (("sizes", self.sizes), ("modes", self.modes)):
            if found:
                lines.append(f"{name} found: {_join(found)}")
        channels, height, width = self.shape
        colour = "colour" if channels == 3 else "grey"
        lines.append(f"given to a model: {width}x{height} pixels (width x height), {colour}, data.fit={self.fit}")
        if self.random_crop:
            lines.append("in training: a random part of each image, data.random_crop=True")
        lines += self.notes
        if self.skipped:
            more = f", the first {_SHOWN}" if len(self.skipped) > _SHOWN else ""
            lines += [
                f"skipped, {len(self.skipped)} unreadable{more}:",
                *(f"  {file}" for file in self.skipped[:_SHOWN]),
            ]
        return "\n".join(lines)


def summarise_data(config: DataConfig) -> tuple[DataSummary, ImageData]:
    """Read a data source and describe it; unreadable images are skipped and listed.

    Args:
        config: the source and how its images are read.

    Returns:
        The summary, and the images.

    Raises:
        InputError: as ``load_data``, but for unreadable images.
    """
    data = load_data(config.model_copy(update={"on_broken": "skip"}))
    is_grey = bool(data.modes) and set(data.modes) <= _GREY_MODES
    notes = (
        ["all images are grey: data.channels=1 gives a model one channel"] if is_grey and config.channels == 3 else []
    )
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    summary = DataSummary(
        data.name, config.shape, config.fit,
        {part: _by_class(images, data.class_names) for part, images in parts.items() if images is not None},
        dict(data.sizes), dict(data.modes), data.skip_reasons, (*data.notes, *notes),
        sum(images.nbytes for images in parts.values() if images is not None) / 2**20, data.fingerprint,
        str(data.mapped) if data.mapped else None, config.random_crop,
    )  # fmt: skip
    return summary, data


def contact_sheet(data: ImageData) -> Image.Image:
    """Draw a row of 16 images of each part, evenly spaced in the order of the source.

    Args:
        data: the images.

    Returns:
        An RGB image; parts from top to bottom: training, validation if there is one, test.
    """
    rows = [_row(images) for images in (data.train, data.validation, data.test) if images is not None and len(images)]
    return Image.fromarray(np.concatenate(rows))


def _row(images: Images) -> np.ndarray:
    chosen = images.evenly_spaced(_COLUMNS).mul(255).byte().expand(-1, 3, -1, -1).numpy().transpose(0, 2, 3, 1)
    missing = _COLUMNS - len(chosen)
    filled = np.concatenate([chosen, np.full((missing, *chosen.shape[1:]), 255, np.uint8)])
    return np.concatenate(list(np.pad(filled, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=255)), axis=1)


def _by_class(images: Images, class_names: tuple[str, ...]) -> dict[str, int]:
    counts = images.labels.bincount(minlength=len(class_names)).tolist()
    return {name: count for name, count in zip(class_names, counts, strict=True) if count}


def _join(found: dict[str, int]) -> str:
    shown = ", ".join(f"{name} ({count})" for name, count in list(found.items())[:_SHOWN])
    return shown + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
