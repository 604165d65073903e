"""A Run measured over its whole test set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vqlab.config import Config
from vqlab.data import ImageData, ordered_batches
from vqlab.metrics.distances import reconstruction_distances, sample_distances
from vqlab.metrics.pixels import mse, psnr, ssim
from vqlab.models import VAE, VQVAE
from vqlab.quantize.usage import perplexity, utilisation

if TYPE_CHECKING:
    from vqlab.training import Run

RECONSTRUCTS = ("vqvae", "vae")


def evaluate(run: Run, device: str = "cpu", *, inception: bool = False) -> dict[str, Any]:
    """All that is known of how a Run reconstructs and samples; nothing is written, ``Run.evaluation`` keeps the answer.

    Pixel metrics (``measure``) and r… distances for what reconstructs, sample_… distances for what samples (see
    vqlab.metrics.distances), parameters. A prior's row has its VQ-VAE's reconstruction columns. inception: measure
    FID and KID too; a column that cannot be had is None and its …_reason says why.
    """
    data, kind = run.data(), run.config.kind
    parameters = sum(weight.numel() for weight in run.model(device).parameters())
    if kind in RECONSTRUCTS:
        columns = measure(run.model(device), data, run.config, device)
        columns |= reconstruction_distances(
            lambda: _reconstructions(run.model(device), data, device), data, device, inception=inception
        )
    elif kind == "gan":
        columns = {"data": data.name, "images": len(data.test)}
    else:
        columns = dict(run.codec().evaluation(device, inception=inception))
        parameters += columns["parameters"]
    if kind != "vqvae":
        count = run.config.evaluation.samples or len(data.test)
        columns |= sample_distances(lambda: run.samples(count, device=device), data, device, inception=inception)
        columns["samples"] = count
    return {**columns, "parameters": parameters}


@torch.no_grad()
def measure(model: VQVAE | VAE, data: ImageData, config: Config, device: str) -> dict[str, Any]:
    """Test-set means of MSE, PSNR (dB) and SSIM, with standard errors; a VQ-VAE's perplexity and utilisation too.

    Perplexity and utilisation are over all test tokens. ``model`` must be in eval mode.
    """
    counts = torch.zeros(config.quantizer.num_codes, device=device)
    values: dict[str, list[Tensor]] = {"mse": [], "psnr": [], "ssim": []}
    for images, _ in ordered_batches(data.test, config.evaluation.batch_size, device):
        out = model(images)
        for name, metric in (("mse", mse), ("psnr", psnr), ("ssim", ssim)):
            values[name].append(metric(out.reconstruction, images).double().cpu())
        if isinstance(model, VQVAE):
            counts += torch.bincount(out.quantized.indices.flatten(), minlength=len(counts))
    columns: dict[str, Any] = {"data": data.name, "images": len(data.test)}
    for name, parts in values.items():
        all_images = torch.cat(parts)
        columns[name] = float(all_images.mean())
        columns[f"{name}_error"] = float(all_images.std() / len(all_images) ** 0.5)
    return {**columns, **_usage(counts)} if isinstance(model, VQVAE) else columns


def _usage(counts: Tensor) -> dict[str, Any]:
    return {
        "perplexity": float(perplexity(counts)),
        "perplexity_window": "data set",
        "tokens": int(counts.sum()),
        "utilisation": float(utilisation(counts)),
    }


@torch.no_grad()
def _reconstructions(model: VQVAE | VAE, data: ImageData, device: str) -> Iterator[Tensor]:
    for images, _ in ordered_batches(data.test, 250, device):
        yield model(images).reconstruction
