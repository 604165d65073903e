"""Images sampled from the model of a Run."""

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
from vqlab.training.workers import ALONE, Workers

BATCH_SIZE = 250
_SETTINGS = {
    "transformer": ("label", "temperature", "top_k", "top_p", "known_codes", "use_cache"),
    "diffusion": ("label",),
}


def open_prior(prior: RunFolder, codec: RunFolder, device: str = "cpu") -> CodeTransformer | LatentDiffusion:
    """Load a trained prior, after checking that it was trained on the codes of a VQ-VAE.

    Args:
        prior: the Run of the prior.
        codec: the Run of the VQ-VAE that decodes the prior's codes.
        device: the torch device of the prior.

    Returns:
        The prior, in eval mode.

    Raises:
        InputError: if the prior was trained on another codebook, or one of the Runs has not finished training.
    """
    check_codebook(prior, codec)
    return prior.model(device)


def draw_samples(
    run: RunFolder, count: int, *, seed: int = 0, device: str = "cpu", workers: Workers = ALONE, **settings: Any
) -> Iterator[Float[Tensor, "B C H W"]]:
    """Sample images in batches.

    Args:
        run: the finished Run of a VAE, a GAN or a prior.
        count: number of images, at least 1.
        seed: seed of the random numbers; the same seed, device and count give the same images. Default 0.
        device: the torch device that computes.
        workers: processes that call this together; each draws a part of the batches. Default: this one alone.
        **settings: for a transformer ``label``, ``temperature``, ``top_k``, ``top_p``, ``known_codes`` and
            ``use_cache``, see ``vqlab.models.sample_codes``; for a diffusion prior ``label``, see
            ``LatentDiffusion.sample``; none for a VAE and a GAN.

    Returns:
        Batches of images in [0, 1], together (count, C, H, W).

    Raises:
        InputError: if ``count`` is below 1, the Run is that of a VQ-VAE without a prior, training has not finished,
            or the Run's kind does not have one of the settings.
    """
    kind = run.config.kind
    if count < 1:
        raise InputError(f"count={count}: must be at least 1")
    if kind == "vqvae":
        raise InputError(
            f"run {run.folder}: holds a VQ-VAE, which cannot be sampled; train a prior on it with "
            "--set prior.kind=transformer"
        )
    unknown = sorted(set(settings) - set(_SETTINGS.get(kind, ())))
    if unknown:
        allowed = ", ".join(_SETTINGS.get(kind, ())) or "none"
        raise InputError(f"{unknown[0]}={settings[unknown[0]]!r}: not a setting of a {kind}; allowed: {allowed}")
    return _sample_batches(run, count, seed, device, workers, settings)


def _sample_batches(
    run: RunFolder, count: int, seed: int, device: str, workers: Workers, settings: dict[str, Any]
) -> Iterator[Tensor]:
    codec = run.codec()
    is_prior = codec is not run
    model = open_prior(run, codec, device) if is_prior else run.model(device)
    decode = codec.model(device).decode if is_prior else lambda images: images
    starts = range(0, count, BATCH_SIZE)
    for number, start in [*enumerate(starts)][workers.part(len(starts))]:
        generator = seeded_generator(seed, number, device=device)
        with torch.no_grad():
            images = decode(model.sample(min(BATCH_SIZE, count - start), generator, **settings))
        yield images
