"""The perceptual loss of a Config, built with its networks."""

from __future__ import annotations

import torch
from torch import nn

from vqlab.config import Config
from vqlab.data import ImageData
from vqlab.losses import PerceptualLoss

# Seed 0 is that of the classifier whose features FD-classifier uses: a model must not train on its own metric.
CLASSIFIER_SEED = 1


def build_perceptual_loss(config: Config, data: ImageData, device: str) -> PerceptualLoss:
    """Build the weighted sum of the perceptual terms whose weight in the Config is above 0.

    Args:
        config: ``config.loss.vgg``, ``config.loss.lpips`` and ``config.loss.classifier`` are the weights.
        data: the images; the ``classifier`` term trains the feature classifier on their labels, once.
        device: the torch device of the networks.

    Returns:
        The loss; ``bool(loss)`` is False if every weight is 0.

    Raises:
        InputError: if pretrained weights cannot be downloaded, or the images have fewer than two classes.
    """
    from vqlab.metrics.pretrained import lpips_loss, vgg_loss

    builders = {"vgg": vgg_loss, "lpips": lpips_loss, "classifier": lambda: classifier_loss(data, device)}
    weights = {name: getattr(config.loss, name) for name in builders}
    return PerceptualLoss({name: build() for name, build in builders.items() if weights[name]}, weights).to(device)


def classifier_loss(data: ImageData, device: str = "cpu") -> nn.Module:
    """Build the feature loss of the feature classifier.

    1/F · Σ_s Σ_c mean((φ_sc(x) − φ_sc(y))²), where φ_sc is channel c of the feature maps after the classifier's stage
    s, the mean is over positions and images, and F is ``Classifier.feature_dim`` (Johnson et al., Perceptual Losses
    for Real-Time Style Transfer and Super-Resolution, 2016).

    Args:
        data: the images and labels that the classifier is trained on, once; it is cached.
        device: the torch device that trains it.

    Returns:
        A module (x, y) -> scalar, for images (B, C, H, W) in [0, 1].

    Raises:
        InputError: if the images have fewer than two classes.
    """
    import piq

    from vqlab.metrics.classifier import feature_classifier
    from vqlab.models.classifier import FEATURE_LAYERS

    classifier = feature_classifier(data, CLASSIFIER_SEED, device)
    weight = torch.tensor(1 / classifier.feature_dim)
    # Mean 0.5 and deviation 0.5 map [0, 1] to [−1, 1], the range that the classifier was trained on.
    weights = [weight] * len(FEATURE_LAYERS)
    return piq.ContentLoss(classifier.body, list(FEATURE_LAYERS), weights, mean=[0.5] * 3, std=[0.5] * 3)
