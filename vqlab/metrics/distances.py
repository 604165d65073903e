"""The columns that compare a set of images with a reference set: FD-classifier, FID, and what goes with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vqlab.data import ImageData, ordered_batches
from vqlab.errors import InputError
from vqlab.metrics.features import (
    BATCH,
    MAX_REFERENCE_FEATURES,
    Extractor,
    Reference,
    classifier_extractor,
    inception_extractor,
    reference,
)
from vqlab.metrics.frechet import Moments, frechet_distance, frechet_error
from vqlab.metrics.kernel import kernel_distance
from vqlab.metrics.precision import precision_recall

NOT_REQUESTED = "not asked for: on a CPU it takes hours; `vqlab evaluate RUN --inception` measures it"
_CHUNK = 256
Images = Callable[[], Iterable[Tensor]]


def reconstruction_distances(images: Images, data: ImageData, device: str, *, inception: bool) -> dict[str, Any]:
    """rfd_classifier, rfid, …: reconstructions of the test images against these images (columns: ``_compare``)."""
    return _distances("r", images, data, "test", device, inception=inception)


def sample_distances(images: Images, data: ImageData, device: str, *, inception: bool) -> dict[str, Any]:
    """sample_fd_classifier, sample_fid, …: samples against the training images (columns: ``_compare``)."""
    return _distances("sample_", images, data, "train", device, inception=inception)


def real_distances(data: ImageData, device: str = "cpu", *, inception: bool = False) -> dict[str, Any]:
    """The floor: real test images in the place of samples, against the training images."""
    return sample_distances(
        lambda: (batch for batch, _ in ordered_batches(data.test, BATCH, device)), data, device, inception=inception
    )


def _distances(
    prefix: str, images: Images, data: ImageData, part: str, device: str, *, inception: bool
) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name in ("fd_classifier", "fid"):
        try:
            extractor = _extractor(name, data, device, inception=inception)
        except InputError as error:
            columns |= {f"{prefix}{name}": None, f"{prefix}{name}_reason": str(error)}
            continue
        known, features = reference(extractor, data, part, device), extractor.features(images())
        columns |= {f"{prefix}{column}": value for column, value in _compare(name, features, known).items()}
        columns[f"{prefix}{name}_by"] = f"{extractor.title}; {len(features)} images, {known.moments.count} of {part}"
    return columns


def _extractor(name: str, data: ImageData, device: str, *, inception: bool) -> Extractor:
    if name == "fd_classifier":
        return classifier_extractor(data, device)
    if not inception:
        raise InputError(NOT_REQUESTED)
    return inception_extractor(device)


def _compare(name: str, features: Tensor, known: Reference) -> dict[str, Any]:
    """Fréchet and kernel distance, each with its standard error, precision and recall."""
    kernel, ending = {"fd_classifier": ("kd_classifier", "_classifier"), "fid": ("kid", "")}[name]
    distance, error = kernel_distance(known.features, features)
    precision, recall = precision_recall(known.features, features[:MAX_REFERENCE_FEATURES])
    return {
        name: frechet_distance(Moments.of(features), known.moments),
        f"{name}_error": _known(frechet_error(features, known.moments)),
        kernel: distance,
        f"{kernel}_error": _known(error),
        f"precision{ending}": precision,
        f"recall{ending}": recall,
    }


def _known(value: float) -> float | None:
    """None for NaN, which JSON does not have."""
    return None if math.isnan(value) else value


def noise_distances(
    data: ImageData, shares: Sequence[float], *, part: str = "test", count: int = 2000, seed: int = 0,
    device: str = "cpu",
) -> list[dict[str, Any]]:  # fmt: skip
    """The sample_… distances of up to ``count`` real images with noise; shares: its standard deviations.

    The check of the metric itself: a distance that can be trusted grows with the noise. Pixels stay in [0, 1].
    part: which images, train or test; test images of another kind than the training ones are far without noise.
    """
    images = data.train if part == "train" else data.test
    pixels = images.evenly_spaced(count)
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(seed))
    rows = []
    for share in shares:
        parts = [part.to(device) for part in (pixels + share * noise).clamp(0, 1).split(_CHUNK)]
        rows.append(sample_distances(partial(iter, parts), data, device, inception=False))
    return rows
