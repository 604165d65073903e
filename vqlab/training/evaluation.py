"""The metrics of a Run over its test images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from vqlab.config import Config
from vqlab.data import ImageData, ordered_batches
from vqlab.metrics.distances import reconstruction_distances, sample_distances
from vqlab.metrics.pixels import mse, psnr, ssim
from vqlab.models import VAE, VQVAE
from vqlab.quantize.usage import perplexity, utilisation
from vqlab.training.run_folder import RunFolder
from vqlab.training.sampling import draw_samples

_RECONSTRUCTS = ("vqvae", "vae")
_BATCH = 250


def evaluate(
    run: RunFolder, device: str = "cpu", *, inception: bool = False, of_codec: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Measure how a Run reconstructs and samples; nothing is written (``Run.evaluation`` keeps the result).

    Args:
        run: a finished Run.
        device: where to compute.
        inception: measure FID and KID too, which needs Inception's weights.
        of_codec: for a prior, the evaluation of its VQ-VAE, whose reconstruction columns it takes over.

    Returns:
        For what reconstructs, ``pixel_metrics`` and the ``r…`` distances; for what samples, the ``sample_…``
        distances (``vqlab.metrics.distances``); and the number of ``parameters``. A column that could not be
        measured is None, and its ``…_reason`` says why.

    Raises:
        InputError: training has not finished, or the images cannot be read.
    """
    data, kind = run.data(), run.config.kind
    parameters = sum(weight.numel() for weight in run.model(device).parameters())
    if kind in _RECONSTRUCTS:
        columns = pixel_metrics(run.model(device), data, run.config, device)
        columns |= reconstruction_distances(
            lambda: _reconstructions(run.model(device), data, device), data, device, inception=inception
        )
    elif kind == "gan":
        columns = {"data": data.name, "images": len(data.test)}
    else:
        columns = dict(of_codec or {})
        parameters += columns.get("parameters", 0)
    if kind != "vqvae":
        count = run.config.evaluation.samples or len(data.test)
        columns |= sample_distances(lambda: draw_samples(run, count, device=device), data, device, inception=inception)
        columns["samples"] = count
    return {**columns, "parameters": parameters}


@torch.no_grad()
def pixel_metrics(model: VQVAE | VAE, data: ImageData, config: Config, device: str) -> dict[str, Any]:
    """Compare the reconstructions of all test images with the images.

    Args:
        model: in eval mode, on ``device``.
        data: whose test images to take.
        config: the Config of the model.
        device: where to compute.

    Returns:
        Means over images of ``mse``, ``psnr`` (dB) and ``ssim``, each with its standard error as ``…_error``; for a
        VQ-VAE also ``perplexity`` and ``utilisation`` over all test tokens, and the number of ``tokens``.
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
    return {**columns, **_usage_metrics(counts)} if isinstance(model, VQVAE) else columns


def _usage_metrics(counts: Tensor) -> dict[str, Any]:
    return {
        "perplexity": float(perplexity(counts)),
        "perplexity_window": "data set",
        "tokens": int(counts.sum()),
        "utilisation": float(utilisation(counts)),
    }


@torch.no_grad()
def _reconstructions(model: VQVAE | VAE, data: ImageData, device: str) -> Iterator[Tensor]:
    for images, _ in ordered_batches(data.test, _BATCH, device):
        yield model(images).reconstruction
