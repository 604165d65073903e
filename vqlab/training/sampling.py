"""Images drawn from the model of a Run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vqlab.data.batches import seeded_generator
from vqlab.errors import InputError
from vqlab.models import CodeTransformer, LatentDiffusion
from vqlab.training.codes import check_codebook
from vqlab.training.run_folder import RunFolder

_BATCH = 250
_SETTINGS = {
    "transformer": ("label", "temperature", "top_k", "top_p", "known_codes", "use_cache"),
    "diffusion": ("label",),
}


def open_prior(prior: RunFolder, codec: RunFolder, device: str = "cpu") -> CodeTransformer | LatentDiffusion:
    """Load a trained prior, after checking that it fits a VQ-VAE.

    Args:
        prior: the Run of the prior.
        codec: the Run of the VQ-VAE whose codes it is to draw.
        device: where to put the prior.

    Returns:
        The prior, in eval mode.

    Raises:
        InputError: the prior was trained on another codebook, or has not finished training.
    """
    check_codebook(prior, codec)
    return prior.model(device)


def draw_samples(
    run: RunFolder, count: int, *, seed: int = 0, device: str = "cpu", **settings: Any
) -> Iterator[Float[Tensor, "B 3 H W"]]:
    """Draw images in batches; the same seed, device and count give the same images.

    Args:
        run: the finished Run of a VAE, a GAN or a prior.
        count: how many images, at least 1.
        seed: of the random numbers.
        device: where to compute.
        **settings: for priors, what ``CodeTransformer.sample`` or ``LatentDiffusion.sample`` take.

    Returns:
        Batches of images in [0, 1], together (count, 3, H, W).

    Raises:
        InputError: a count below 1, a VQ-VAE without a prior, or a setting that the Run's kind does not have.
    """
    kind = run.config.kind
    if count < 1:
        raise InputError(f"count={count}: must be at least 1")
    if kind == "vqvae":
        raise InputError(
            f"run {run.folder}: a VQ-VAE cannot be sampled; train a prior on it with --set prior.kind=transformer"
        )
    unknown = sorted(set(settings) - set(_SETTINGS.get(kind, ())))
    if unknown:
        allowed = ", ".join(_SETTINGS.get(kind, ())) or "none"
        raise InputError(f"{unknown[0]}={settings[unknown[0]]!r}: not a setting of a {kind}; allowed: {allowed}")
    return _draw_batches(run, count, seed, device, settings)


@torch.no_grad()
def _draw_batches(run: RunFolder, count: int, seed: int, device: str, settings: dict[str, Any]) -> Iterator[Tensor]:
    codec = run.codec()
    is_prior = codec is not run
    model = open_prior(run, codec, device) if is_prior else run.model(device)
    decode = codec.model(device).decode if is_prior else lambda images: images
    for number, start in enumerate(range(0, count, _BATCH)):
        generator = seeded_generator(seed, number, device=device)
        yield decode(model.sample(min(_BATCH, count - start), generator, **settings))
