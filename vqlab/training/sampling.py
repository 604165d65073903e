"""Images drawn from a Run that can draw them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from vqlab.data.batches import step_generator
from vqlab.errors import InputError
from vqlab.training.codes import check_codebook

if TYPE_CHECKING:
    from vqlab.models import CodeTransformer, LatentDiffusion
    from vqlab.training.run import Run

BATCH = 250
_SETTINGS = {
    "transformer": ("label", "temperature", "top_k", "top_p", "given", "cached"),
    "diffusion": ("label",),
}


def open_prior(prior: Run, codec: Run, device: str = "cpu") -> CodeTransformer | LatentDiffusion:
    """The trained prior of ``prior``; raises InputError unless it was trained on the codebook that ``codec`` has."""
    check_codebook(prior, codec)
    return prior.model(device)


def samples(
    run: Run, count: int, *, seed: int = 0, device: str = "cpu", **how: Any
) -> Iterator[Float[Tensor, "B 3 H W"]]:
    """``count`` images in [0, 1] in batches of 250, the same for the same seed, device and count.

    how: for priors, what ``CodeTransformer.sample`` or ``LatentDiffusion.sample`` take (label, temperature, …).
    Raises InputError for a count below 1, for a VQ-VAE, which has codes but no prior over them, and for settings
    that the Run's kind does not have.
    """
    kind = run.config.kind
    if count < 1:
        raise InputError(f"count={count}: must be at least 1")
    if kind == "vqvae":
        raise InputError(
            f"run {run.folder}: a VQ-VAE cannot be sampled; train a prior on it with --set prior.kind=transformer"
        )
    unknown = sorted(set(how) - set(_SETTINGS.get(kind, ())))
    if unknown:
        raise InputError(f"{unknown[0]}={how[unknown[0]]!r}: a {kind} has no such setting")
    return _batches(run, count, seed, device, how)


@torch.no_grad()
def _batches(run: Run, count: int, seed: int, device: str, how: dict[str, Any]) -> Iterator[Tensor]:
    codec = run.codec()
    prior = codec is not run
    model = open_prior(run, codec, device) if prior else run.model(device)
    decode = codec.model(device).decode if prior else lambda images: images
    for number, start in enumerate(range(0, count, BATCH)):
        generator = step_generator(seed, number, device=device)
        yield decode(model.sample(min(BATCH, count - start), generator, **how))
