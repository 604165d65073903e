"""The metrics of a Run: reconstructions of its test images, and samples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vqlab.config import Config
from vqlab.data import ImageData, ordered_batches
from vqlab.metrics.distances import reconstruction_distances, sample_distances
from vqlab.metrics.pixels import mse, pooled_psnr, psnr, ssim
from vqlab.models import VAE, VQVAE
from vqlab.quantize.usage import count_codes, joint_entropy_bits, perplexity, utilisation
from vqlab.training.run_folder import RunFolder
from vqlab.training.sampling import BATCH_SIZE, draw_samples
from vqlab.training.workers import ALONE, Workers

_AUTOENCODERS = ("vqvae", "vae")


def evaluate(
    run: RunFolder, device: str = "cpu", *, inception: bool = False, codec_columns: Mapping[str, Any] | None = None,
    workers: Workers = ALONE,
) -> dict[str, Any]:  # fmt: skip
    """Measure the reconstructions and samples of a Run, without writing a file; ``Run.evaluation`` stores the result.

    Args:
        run: a finished Run.
        device: the torch device that computes.
        inception: whether FID and KID are measured, which needs the weights of Inception. Default False: on a CPU
            they take hours.
        codec_columns: for a prior, the evaluation of its VQ-VAE, whose columns are copied into the result. Default
            none.
        workers: processes that call this together; each measures a part of the images. Default: this one alone.

    Returns:
        Columns by name: ``data`` and the number of test ``images``; for a VQ-VAE and a VAE, the columns of
        ``pixel_metrics`` and the distances ``r…`` of ``vqlab.metrics.distances``; for a VAE, a GAN and a prior, the
        distances ``sample_…`` and the number of ``samples``; and the number of ``parameters``, those of the VQ-VAE
        included. A distance that could not be measured is None, and ``…_reason`` is the reason.

    Raises:
        InputError: if training has not finished, or the images cannot be read.
    """
    data, kind = run.data(), run.config.kind
    model = run.model(device)
    parameters = sum(weight.numel() for weight in model.parameters())
    if kind in _AUTOENCODERS:
        columns = pixel_metrics(model, data, run.config, device, workers=workers)
        sharing = _sharing(len(data.test), workers)
        columns |= reconstruction_distances(
            lambda: _reconstructions(model, data, device, sharing), data, device, inception=inception, sharing=sharing
        )
    elif kind == "gan":
        columns = {"data": data.name, "images": len(data.test)}
    else:
        columns = dict(codec_columns or {})
        parameters += columns.get("parameters", 0)
    if kind != "vqvae":
        count = run.config.evaluation.samples or len(data.test)
        sharing = _sharing(count, workers)
        columns |= sample_distances(
            lambda: draw_samples(run, count, device=device, workers=sharing), data, device, inception=inception,
            sharing=sharing,
        )  # fmt: skip
        columns["samples"] = count
    return {**columns, "parameters": parameters}


@torch.no_grad()
def pixel_metrics(
    model: VQVAE | VAE, data: ImageData, config: Config, device: str, *, held_out: bool = False,
    workers: Workers = ALONE,
) -> dict[str, Any]:  # fmt: skip
    """Compare the reconstructions of all test images with the images.

    Args:
        model: the model, in eval mode, on ``device``.
        data: the images.
        config: the Config of the model.
        device: the torch device that computes.
        held_out: whether ``data.held_out`` is measured, which are the validation images if there are any. Default
            False: the test images.
        workers: processes that call this together; each measures a part of the images. Default: this one alone.

    Returns:
        ``data``, the measured ``part`` (``test`` or ``validation``), the number of ``images``, and the means over
        images of ``mse``, ``psnr`` (dB) and ``ssim``, each with its standard error ``…_error``; and ``psnr_pooled``,
        −10·log₁₀ of the mean of ``mse`` (dB). For a VQ-VAE also ``perplexity`` and ``utilisation`` over all tokens of
        the part (``perplexity_window`` is ``data set``), the columns of ``usage_columns`` and the number of ``tokens``;
        for vectors of several codes the means over their places, and the tokens of all places.
    """
    part = data.held_out if held_out else data.test
    own = part.section(workers.part(len(part)))
    codes = (config.quantizer.num_codes, config.quantizer.codes_per_vector)
    counts = torch.zeros(codes[::-1], device=device)
    vectors: list[Tensor] = []
    values: dict[str, list[Tensor]] = {"mse": [], "psnr": [], "ssim": []}
    for images, _ in ordered_batches(own, config.evaluation.batch_size, device):
        output = model(images)
        for name, metric in (("mse", mse), ("psnr", psnr), ("ssim", ssim)):
            values[name].append(metric(output.reconstruction, images).double().cpu())
        if isinstance(model, VQVAE):
            indices = output.quantized.indices
            counts += count_codes(indices, *codes)
            if codes[1] > 1:
                vectors.append(indices.flatten(0, -2).to("cpu", torch.int32))
    name_of_part = "test" if part is data.test else "validation"
    columns: dict[str, Any] = {"data": data.name, "part": name_of_part, "images": len(part)}
    for name, parts in values.items():
        per_image = workers.gather(torch.cat([torch.zeros(0, dtype=torch.float64), *parts]).to(device)).cpu()
        columns[name] = float(per_image.mean())
        if len(per_image) > 1:
            columns[f"{name}_error"] = float(per_image.std() / len(per_image) ** 0.5)
    columns["psnr_pooled"] = pooled_psnr(columns["mse"])
    if not isinstance(model, VQVAE):
        return columns
    joint_bits = None
    if codes[1] > 1:
        joint_bits = joint_entropy_bits(workers.gather(torch.cat(vectors).to(device)).cpu(), codes[0])
    return {**columns, **_usage_metrics(workers.sum(counts), joint_bits)}


def usage_columns(perplexities: Sequence[float], num_codes: int, joint_bits: float | None = None) -> dict[str, float]:
    """Compute how well a codebook is used, from the perplexity of each place of the index in a vector.

    Args:
        perplexities: perplexity of each place, 1…K.
        num_codes: K.
        joint_bits: entropy of whole vectors, bits; None for vectors of one code, whose entropy it is.

    Returns:
        ``cvu``, the mean over the places of perplexity / K, in 0…1; ``entropy_bits_a_vector``, the sum over the places
        of log₂ perplexity; ``joint_entropy_bits_a_vector``, that of whole vectors.

    Example:
        >>> usage_columns([8.0], 16)
        {'cvu': 0.5, 'entropy_bits_a_vector': 3.0, 'joint_entropy_bits_a_vector': 3.0}
    """
    entropy = sum(map(math.log2, perplexities))
    return {
        "cvu": sum(perplexities) / len(perplexities) / num_codes,
        "entropy_bits_a_vector": entropy,
        "joint_entropy_bits_a_vector": entropy if joint_bits is None else joint_bits,
    }


def _usage_metrics(counts: Tensor, joint_bits: float | None) -> dict[str, Any]:
    perplexities = [float(perplexity(place)) for place in counts]
    return {
        "perplexity": float(torch.tensor(perplexities).mean()),
        "perplexity_window": "data set",
        "tokens": int(counts.sum()),
        "utilisation": float(torch.stack([utilisation(place) for place in counts]).mean()),
        **usage_columns(perplexities, counts.shape[1], joint_bits),
    }


def _sharing(count: int, workers: Workers) -> Workers:
    """The processes, or each for itself if there are fewer batches than processes."""
    return workers if math.ceil(count / BATCH_SIZE) >= workers.size else ALONE


def _reconstructions(model: VQVAE | VAE, data: ImageData, device: str, workers: Workers) -> Iterator[Tensor]:
    batches = workers.part(math.ceil(len(data.test) / BATCH_SIZE))
    own = data.test.section(slice(batches.start * BATCH_SIZE, batches.stop * BATCH_SIZE))
    for images, _ in ordered_batches(own, BATCH_SIZE, device):
        with torch.no_grad():
            reconstruction = model(images).reconstruction
        yield reconstruction
