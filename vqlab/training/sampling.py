"""Images drawn from a Run that can draw them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from vqlab.data.batches import step_generator
from vqlab.errors import InputError

if TYPE_CHECKING:
    from vqlab.training.run import Run

BATCH = 250


def samples(run: Run, count: int, *, seed: int = 0, device: str = "cpu") -> Iterator[Float[Tensor, "B 3 H W"]]:
    """``count`` images in [0, 1] in batches of 250, the same for the same seed, device and count.

    Raises InputError for a count below 1 and for a VQ-VAE, which has codes but no prior over them.
    """
    if count < 1:
        raise InputError(f"count={count}: must be at least 1")
    if run.config.kind == "vqvae":
        raise InputError(
            f"run {run.folder}: a VQ-VAE cannot be sampled; train a prior on it with --set prior.kind=transformer"
        )
    return _batches(run, count, seed, device)


@torch.no_grad()
def _batches(run: Run, count: int, seed: int, device: str) -> Iterator[Tensor]:
    model = run.model(device)
    for number, start in enumerate(range(0, count, BATCH)):
        yield model.sample(min(BATCH, count - start), step_generator(seed, number, device=device))
