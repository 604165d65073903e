"""The lab's classifier of a data set: trained once on its labels, then kept in the cache."""

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

EPOCHS, BATCH, PEAK_RATE = 4, 64, 3e-3
# Raise this where network or training change, so that no cache of before is taken.
_EDITION = 2


def feature_classifier(data: ImageData, seed: int = 0, device: str = "cpu") -> Classifier:
    """The classifier of ``data``'s training labels, in eval mode: five epochs of Adam, crops and flips, seeded.

    Kept by data fingerprint and seed, as arrays without pickles. Seed 0 is for metrics; perceptual losses take
    another, so that no model trains on the features it is measured by. Raises InputError for fewer than 2 classes.
    """
    if len(data.train.labels.unique()) < 2:
        raise InputError(f"data {data.name}: has one class, a classifier needs two; give train/ more class folders")
    key = f"classifier-{_EDITION}-{data.fingerprint}-{seed}"
    arrays = cached_arrays(key, partial(_train, data, seed, device))
    model = Classifier(len(data.class_names), seed)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return model.to(device).eval().requires_grad_(False)


@torch.no_grad()
def accuracy(model: Classifier, data: ImageData, device: str = "cpu") -> float:
    """Share of test images that get their own label; NaN where no test label was trained on."""
    if not torch.isin(data.test.labels, data.train.labels).any():
        return float("nan")
    right = [(model(images).argmax(1) == labels).cpu() for images, labels in ordered_batches(data.test, 256, device)]
    return float(torch.cat(right).double().mean())


def digest(model: Classifier) -> str:
    """Twelve hex digits of the SHA-256 of the weights."""
    hashed = hashlib.sha256()
    for tensor in model.state_dict().values():
        hashed.update(tensor.cpu().numpy().tobytes())
    return hashed.hexdigest()[:12]


@torch.enable_grad()
def _train(data: ImageData, seed: int, device: str) -> dict[str, np.ndarray]:
    model = Classifier(len(data.class_names), seed).to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=PEAK_RATE)
    last = EPOCHS * -(-len(data.train) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=last)
    for epoch in range(EPOCHS):
        for images, labels in batches(
            data.train, BATCH, seed=seed, epoch=epoch, augment=True, crop_padding=2, device=device
        ):
            if len(images) < 2:
                continue  # batch normalisation needs two
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
            schedule.step()
    return {name: tensor.detach().cpu().numpy() for name, tensor in model.state_dict().items()}
