"""Feature extractors: what sees the images when two sets of them are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from vqlab.data import ImageData, ordered_batches
from vqlab.data.cache import cached_arrays
from vqlab.metrics.frechet import Moments

BATCH = 250
# Feature vectors of a reference set that are kept, beside its moments, for kernel distance, precision and recall.
MAX_REFERENCE_FEATURES = 10_000


@dataclass(frozen=True)
class Extractor:
    """see: images (B, 3, H, W) in [0, 1] to features (B, D). title: extractor and resize, to print beside a value."""

    key: str
    title: str
    extract: Callable[[Tensor], Tensor]

    @torch.no_grad()
    def features(self, batches: Iterable[Float[Tensor, "B 3 H W"]]) -> Float[Tensor, "N D"]:
        """The features of all batches, float32 on the CPU."""
        return torch.cat([self.extract(images).float().cpu() for images in batches])


@dataclass(frozen=True)
class Reference:
    """What images are compared with: the moments of all, and the features of the first KEPT of a seeded shuffle."""

    moments: Moments
    features: Float[Tensor, "M D"]


def classifier_extractor(data: ImageData, device: str = "cpu") -> Extractor:
    """The lab classifier of ``data``, seed 0; raises InputError for data of one class."""
    from vqlab.metrics.classifier import accuracy, digest, feature_classifier

    model = feature_classifier(data, 0, device)
    right = accuracy(model, data, device)
    told = "" if right != right else f", test accuracy {right:.1%}"
    title = f"lab classifier of {data.name}, {model.feature_dim} features, no resize{told}"
    return Extractor(f"classifier-{digest(model)}", title, model.features)


def inception_extractor(device: str = "cpu") -> Extractor:
    """Inception as piq and pytorch-fid take it; raises InputError where its weights cannot be had."""
    from vqlab.metrics.pretrained import inception

    model = inception().to(device)
    return Extractor(
        "inception", "Inception (pytorch-fid weights), 2048 features, bilinear resize to 299 px",
        lambda images: model(images.clamp(0, 1))[0].flatten(1),
    )  # fmt: skip


def reference(extractor: Extractor, data: ImageData, part: str, device: str = "cpu") -> Reference:
    """Statistics of ``data``'s ``part`` (train or test), kept in the cache by data fingerprint and extractor."""
    key = f"features-{extractor.key}-{data.fingerprint}-{part}"
    arrays = cached_arrays(key, partial(_statistics, extractor, data, part, device))
    moments = Moments(arrays["mean"], arrays["covariance"], int(arrays["count"]))
    return Reference(moments, torch.from_numpy(arrays["features"]))


def _statistics(extractor: Extractor, data: ImageData, part: str, device: str) -> dict:
    images = data.train if part == "train" else data.test
    features = extractor.features(batch for batch, _ in ordered_batches(images, BATCH, device))
    moments = Moments.of(features)
    chosen = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))[:MAX_REFERENCE_FEATURES]
    return {
        "mean": moments.mean, "covariance": moments.covariance, "count": moments.count,
        "features": features[chosen].numpy(),
    }  # fmt: skip
