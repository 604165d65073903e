"""Distances between a set of images and a reference set, as columns of an evaluation.

For each feature extractor, ``fd_classifier`` (feature classifier) and ``fid`` (Inception):

* ``fd_classifier``, ``fid``: Fréchet distance;
* ``kd_classifier``, ``kid``: kernel distance;
* ``precision_classifier`` and ``recall_classifier``, ``precision`` and ``recall``;
* ``…_error``: standard error of a distance, None if it is undefined;
* ``fd_classifier_by``, ``fid_by``: extractor and numbers of images.

If the extractor is not available, the distance is None, ``fd_classifier_reason`` or ``fid_reason`` says why, and
its other columns are absent. Every column has a prefix: ``r`` for reconstructions, ``sample_`` for samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from vqlab.data import ImageData, ordered_batches
from vqlab.errors import InputError
from vqlab.metrics.features import (
    BATCH_SIZE,
    MAX_REFERENCE_FEATURES,
    Extractor,
    ReferenceStatistics,
    classifier_extractor,
    inception_extractor,
    reference_statistics,
)
from vqlab.metrics.frechet import Moments, frechet_distance, frechet_error
from vqlab.metrics.kernel import kernel_distance
from vqlab.metrics.precision import precision_recall

# Do not change this text: it is stored as a reason in evaluation.json of existing Runs, and Run.evaluation compares it.
NOT_REQUESTED = "not asked for: on a CPU it takes hours; `vqlab evaluate RUN --inception` measures it"
_NOISE_BATCH_SIZE = 256
# Returns an iterator over batches of images, (B, C, H, W) in [0, 1]; called once for each extractor.
BatchSource = Callable[[], Iterable[Float[Tensor, "B C H W"]]]


class Sharing(Protocol):
    """Processes that measure one set of images together, each a part of it."""

    def main_first(self) -> AbstractContextManager[None]:
        """Let one process run the ``with`` block before the others.

        Returns:
            The context manager.
        """

    def gather(self, rows: Float[Tensor, "N D"]) -> Float[Tensor, "M D"]:
        """Join the rows of all processes.

        Args:
            rows: those of this process.

        Returns:
            Those of all, in the order of the images.
        """


class _Alone:
    """One process."""

    def main_first(self) -> AbstractContextManager[None]:
        return nullcontext()

    def gather(self, rows: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        return rows


ALONE = _Alone()


def reconstruction_distances(
    source: BatchSource, data: ImageData, device: str, *, inception: bool, sharing: Sharing = ALONE
) -> dict[str, Any]:
    """Compare reconstructions of the test images with the test images.

    Args:
        source: returns an iterator over batches of reconstructions, (B, C, H, W) in [0, 1] on ``device``.
        data: the images.
        device: device of the feature extractors.
        inception: whether to measure FID and KID too, which takes hours on a CPU.
        sharing: the processes that call this together; ``source`` then has the part of this one. Default: this one.

    Returns:
        The columns of this module with the prefix ``r``: ``rfd_classifier``, ``rfid`` and so on.
    """
    return _distances("r", source, data, "test", device, inception, sharing)


def sample_distances(
    source: BatchSource, data: ImageData, device: str, *, inception: bool, sharing: Sharing = ALONE
) -> dict[str, Any]:
    """Compare samples with the training images.

    Args:
        source: returns an iterator over batches of samples, (B, C, H, W) in [0, 1] on ``device``.
        data: the images.
        device: device of the feature extractors.
        inception: whether to measure FID and KID too, which takes hours on a CPU.
        sharing: as for ``reconstruction_distances``.

    Returns:
        The columns of this module with the prefix ``sample_``: ``sample_fd_classifier``, ``sample_fid`` and so on.
    """
    return _distances("sample_", source, data, "train", device, inception, sharing)


def real_image_distances(data: ImageData, device: str = "cpu", *, inception: bool = False) -> dict[str, Any]:
    """Compare the real test images, in place of samples, with the training images.

    The reference for the distances of samples: a perfect model would reach about these values.

    Args:
        data: the images.
        device: device of the feature extractors.
        inception: whether to measure FID and KID too, which takes hours on a CPU.

    Returns:
        The columns of ``sample_distances``.
    """
    return sample_distances(
        lambda: (images for images, _ in ordered_batches(data.test, BATCH_SIZE, device)), data, device,
        inception=inception,
    )  # fmt: skip


def _distances(
    prefix: str, source: BatchSource, data: ImageData, split: str, device: str, inception: bool, sharing: Sharing
) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name in ("fd_classifier", "fid"):
        try:
            # The others find classifier and statistics in the cache.
            with sharing.main_first():
                extractor = _build_extractor(name, data, device, inception=inception)
                reference = reference_statistics(extractor, data, split, device)
        except InputError as error:
            columns |= {f"{prefix}{name}": None, f"{prefix}{name}_reason": str(error)}
            continue
        features = sharing.gather(extractor.features(source()).to(device)).cpu()
        columns |= {f"{prefix}{column}": value for column, value in _compare(name, features, reference).items()}
        counts = f"{len(features)} images, {reference.moments.count} of {split}"
        columns[f"{prefix}{name}_by"] = f"{extractor.title}; {counts}"
    return columns


def _build_extractor(name: str, data: ImageData, device: str, *, inception: bool) -> Extractor:
    if name == "fd_classifier":
        return classifier_extractor(data, device)
    if not inception:
        raise InputError(NOT_REQUESTED)
    return inception_extractor(device)


def _compare(name: str, features: Float[Tensor, "N D"], reference: ReferenceStatistics) -> dict[str, Any]:
    kernel, suffix = {"fd_classifier": ("kd_classifier", "_classifier"), "fid": ("kid", "")}[name]
    distance, error = kernel_distance(reference.features, features)
    precision, recall = precision_recall(reference.features, features[:MAX_REFERENCE_FEATURES])
    return {
        name: frechet_distance(Moments.from_features(features), reference.moments),
        f"{name}_error": _none_if_nan(frechet_error(features, reference.moments)),
        kernel: distance,
        f"{kernel}_error": _none_if_nan(error),
        f"precision{suffix}": precision,
        f"recall{suffix}": recall,
    }


def _none_if_nan(value: float) -> float | None:
    """None for NaN, which is not valid JSON."""
    return None if math.isnan(value) else value


def describe_distances(columns: Mapping[str, Any], prefix: str) -> str:
    """Describe what the two distances of an evaluation were measured with.

    Args:
        columns: columns of ``reconstruction_distances`` or ``sample_distances``.
        prefix: prefix of the columns: ``r`` or ``sample_``.

    Returns:
        One line each for FD-classifier and FID: extractor and numbers of images, or the reason why it is missing.

    Example:
        >>> print(describe_distances({"rfd_classifier_by": "classifier; 10 images", "rfid_reason": "no weights"}, "r"))
        FD-classifier: classifier; 10 images
        FID: no weights
    """
    names = {"fd_classifier": "FD-classifier", "fid": "FID"}
    return "\n".join(
        f"{label}: {columns.get(f'{prefix}{name}_by') or columns[f'{prefix}{name}_reason']}"
        for name, label in names.items()
    )


def noise_distances(
    data: ImageData, noise_levels: Sequence[float], *, split: str = "test", count: int = 2000, seed: int = 0,
    device: str = "cpu",
) -> list[dict[str, Any]]:  # fmt: skip
    """Compare real images with added Gaussian noise with the training images, as a check of the metrics.

    A useful distance grows with the noise. All noise levels use the same images and the same noise, scaled; the
    noisy pixels are clipped to [0, 1].

    Args:
        data: the images.
        noise_levels: standard deviations of the noise, at least 0, for pixels in [0, 1].
        split: which images get the noise: ``train`` or ``test``. Use ``train`` if the test images have other content
            than the training images, because their distance is then large without noise.
        count: how many images at most.
        seed: seed of the noise.
        device: device of the feature extractors.

    Returns:
        The columns of ``sample_distances`` without FID and KID, for each standard deviation.
    """
    images = data.train if split == "train" else data.test
    pixels = images.evenly_spaced(count)
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(seed))
    rows = []
    for level in noise_levels:
        noisy = (pixels + level * noise).clamp(0, 1)
        batches = [batch.to(device) for batch in noisy.split(_NOISE_BATCH_SIZE)]
        rows.append(sample_distances(partial(iter, batches), data, device, inception=False))
    return rows
