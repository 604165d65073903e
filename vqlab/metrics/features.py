"""Feature extractors, and statistics of the features of a reference set."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vqlab.data import ImageData, ordered_batches
from vqlab.data.cache import cached_arrays
from vqlab.metrics.frechet import Moments

BATCH_SIZE = 250
# Features of a reference set that are stored in addition to its moments, for kernel distance, precision and recall.
MAX_REFERENCE_FEATURES = 10_000


@dataclass(frozen=True)
class Extractor:
    """A network that maps images to features.

    Attributes:
        key: identifies the network and its weights in cache keys.
        title: network, number of features and resizing, to show with each distance.
        extract: maps images in [0, 1], (B, C, H, W), to features, (B, D).
    """

    key: str
    title: str
    extract: Callable[[Float[Tensor, "B C H W"]], Float[Tensor, "B D"]]

    @torch.no_grad()
    def features(self, batches: Iterable[Float[Tensor, "B C H W"]]) -> Float[Tensor, "N D"]:
        """Extract the features of all images.

        Args:
            batches: at least one batch of images in [0, 1], on the device of the network.

        Returns:
            The features, float32 on the CPU.
        """
        return torch.cat([self.extract(images).float().cpu() for images in batches])


@dataclass(frozen=True)
class ReferenceStatistics:
    """Statistics of the features of a reference set.

    Attributes:
        moments: mean and covariance of all features.
        features: features of at most MAX_REFERENCE_FEATURES images, the first of a shuffle with seed 0, (M, D).
    """

    moments: Moments
    features: Float[Tensor, "M D"]


def classifier_extractor(data: ImageData, device: str = "cpu") -> Extractor:
    """Build the extractor of FD-classifier: the feature classifier of ``data`` with seed 0.

    Args:
        data: the images; the classifier is trained if it is not in the cache.
        device: device of the classifier.

    Returns:
        The extractor, with 128 features.

    Raises:
        InputError: if the training images have fewer than two classes.
    """
    from vqlab.metrics.classifier import accuracy, feature_classifier, weights_digest

    model = feature_classifier(data, 0, device)
    test_accuracy = accuracy(model, data, device)
    suffix = "" if test_accuracy != test_accuracy else f", test accuracy {test_accuracy:.1%}"
    # "lab classifier" stays, as evaluation.json of existing Runs has it: equal titles mean equal extractors.
    title = f"lab classifier of {data.name}, {model.feature_dim} features, no resize{suffix}"
    return Extractor(f"classifier-{weights_digest(model)}", title, model.features)


def inception_extractor(device: str = "cpu") -> Extractor:
    """Build the extractor of FID: Inception with the weights of pytorch-fid.

    Args:
        device: device of the network.

    Returns:
        The extractor, with 2048 features. It resizes images to 299×299 pixels bilinearly, those that are not square
        without regard to their shape, as other packages do; the channel of grey images is repeated.

    Raises:
        InputError: if the weights are not in the cache folder and cannot be downloaded, or are damaged.
    """
    from vqlab.metrics.pretrained import inception

    model = inception().to(device)
    return Extractor(
        "inception", "Inception (pytorch-fid weights), 2048 features, bilinear resize to 299 px",
        lambda images: model(images.clamp(0, 1).expand(-1, 3, -1, -1))[0].flatten(1),
    )  # fmt: skip


def reference_statistics(extractor: Extractor, data: ImageData, split: str, device: str = "cpu") -> ReferenceStatistics:
    """Compute the statistics of a reference set, or read them from the cache.

    Args:
        extractor: the feature extractor.
        data: the images.
        split: which images are the reference: ``train`` or ``test``.
        device: device of the extractor.

    Returns:
        The statistics; they are stored by the fingerprint of the data, ``split`` and ``extractor.key``.
    """
    key = f"features-{extractor.key}-{data.fingerprint}-{split}"
    arrays = cached_arrays(key, partial(_compute_statistics, extractor, data, split, device))
    moments = Moments(arrays["mean"], arrays["covariance"], int(arrays["count"]))
    return ReferenceStatistics(moments, torch.from_numpy(arrays["features"]))


def _compute_statistics(extractor: Extractor, data: ImageData, split: str, device: str) -> dict[str, Any]:
    images = data.train if split == "train" else data.test
    features = extractor.features(batch for batch, _ in ordered_batches(images, BATCH_SIZE, device))
    moments = Moments.from_features(features)
    indices = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))[:MAX_REFERENCE_FEATURES]
    return {
        "mean": moments.mean, "covariance": moments.covariance, "count": moments.count,
        "features": features[indices].numpy(),
    }  # fmt: skip
