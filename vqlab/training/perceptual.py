"""The perceptual terms that a Config weighs, with their networks."""

from __future__ import annotations

import torch
from torch import nn

from vqlab.config import Config
from vqlab.data import ImageData
from vqlab.losses import Perceptual

# Not 0, the seed of the classifier that FD-classifier is measured on.
CLASSIFIER_SEED = 1


def perceptual_terms(config: Config, data: ImageData, device: str) -> Perceptual:
    """``Perceptual`` of the terms with a weight above 0; raises InputError where their weights cannot be had."""
    from vqlab.metrics.pretrained import lpips_loss, vgg_loss

    builders = {"vgg": vgg_loss, "lpips": lpips_loss, "classifier": lambda: classifier_loss(data, device)}
    weights = {name: getattr(config.loss, name) for name in builders}
    return Perceptual({name: build() for name, build in builders.items() if weights[name]}, weights).to(device)


def classifier_loss(data: ImageData, device: str = "cpu") -> nn.Module:
    """(x, y) -> squared difference of the lab classifier's feature maps, as ``vgg_loss`` has it, on [0, 1] images."""
    import piq

    from vqlab.metrics.classifier import feature_classifier
    from vqlab.models.classifier import STAGES

    classifier = feature_classifier(data, CLASSIFIER_SEED, device)
    share = torch.tensor(1 / classifier.feature_dim)
    # Mean 0.5 and deviation 0.5 take [0, 1] to the [−1, 1] that the classifier was trained on.
    return piq.ContentLoss(classifier.body, list(STAGES), [share] * len(STAGES), mean=[0.5] * 3, std=[0.5] * 3)
