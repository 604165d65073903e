"""Training of the feature classifier of a data set, stored in the cache."""

from __future__ import annotations

import hashlib
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from vqlab.data import ImageData, batches, ordered_batches
from vqlab.data.cache import cached_arrays
from vqlab.errors import InputError
from vqlab.models import Classifier

EPOCHS, BATCH_SIZE, MAX_LEARNING_RATE = 4, 64, 3e-3
# Part of the cache key; increase it when the network or its training changes, so that older weights are not used.
_CACHE_VERSION = 2


def feature_classifier(data: ImageData, seed: int = 0, device: str = "cpu") -> Classifier:
    """Train a classifier on the training labels of ``data``, or load it from the cache.

    Training takes four epochs of Adam with a one-cycle learning rate, random crops and flips. The weights are stored
    by the fingerprint of the data and the seed.

    Args:
        data: images with at least two classes.
        seed: seed of initial weights, order, crops and flips. Metrics use seed 0; a perceptual loss must use another
            seed, so that no model is trained on the features of its own evaluation.
        device: device of training and of the result.

    Returns:
        The classifier in eval mode, with weights that need no gradient.

    Raises:
        InputError: if the training images have fewer than two classes.
    """
    if len(data.train.labels.unique()) < 2:
        raise InputError(
            f"data {data.name}: has one class, the feature classifier needs at least 2; add class folders to train/"
        )
    key = f"classifier-{_CACHE_VERSION}-{data.fingerprint}-{seed}"
    arrays = cached_arrays(key, partial(_train, data, seed, device))
    model = Classifier(len(data.class_names), seed)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return model.to(device).eval().requires_grad_(False)


@torch.no_grad()
def accuracy(model: Classifier, data: ImageData, device: str = "cpu") -> float:
    """Measure the share of test images that are classified correctly.

    Args:
        model: a classifier of ``data``, in eval mode on ``device``.
        data: images and labels.
        device: device of the classifier.

    Returns:
        The accuracy in [0, 1]; NaN if no test label occurs among the training labels.
    """
    if not torch.isin(data.test.labels, data.train.labels).any():
        return float("nan")
    correct = [(model(images).argmax(1) == labels).cpu() for images, labels in ordered_batches(data.test, 256, device)]
    return float(torch.cat(correct).double().mean())


def weights_digest(model: Classifier) -> str:
    """Compute a digest of the weights.

    Args:
        model: a classifier.

    Returns:
        The first 12 hexadecimal digits of the SHA-256 of its state dict.
    """
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


@torch.enable_grad()
def _train(data: ImageData, seed: int, device: str) -> dict[str, np.ndarray]:
    model = Classifier(len(data.class_names), seed).to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=MAX_LEARNING_RATE)
    total_steps = EPOCHS * -(-len(data.train) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, MAX_LEARNING_RATE, total_steps=total_steps)
    for epoch in range(EPOCHS):
        for images, labels in batches(
            data.train, BATCH_SIZE, seed=seed, epoch=epoch, augment=True, crop_padding=2, device=device
        ):
            if len(images) < 2:
                continue  # batch normalisation needs two images
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
            schedule.step()
    return {name: tensor.detach().cpu().numpy() for name, tensor in model.state_dict().items()}
