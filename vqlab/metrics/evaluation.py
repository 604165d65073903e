"""A Run measured over its whole test set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from vqlab.config import Config
from vqlab.data import ImageData, ordered_batches
from vqlab.metrics.pixels import mse, psnr, ssim
from vqlab.models import VQVAE
from vqlab.quantize.usage import perplexity, utilisation

if TYPE_CHECKING:
    from vqlab.training import Run


def evaluate(run: Run, device: str = "cpu") -> dict[str, Any]:
    """The Run's test-set metrics (see ``measure``); nothing is written, ``Run.evaluation`` keeps the answer."""
    return measure(run.model(device), run.data(), run.config, device)


@torch.no_grad()
def measure(model: VQVAE, data: ImageData, config: Config, device: str) -> dict[str, Any]:
    """Test-set means of MSE, PSNR (dB) and SSIM; perplexity and utilisation over all test tokens.

    ``model`` must be in eval mode.
    """
    counts = torch.zeros(config.quantizer.num_codes, device=device)
    values: dict[str, list[torch.Tensor]] = {"mse": [], "psnr": [], "ssim": []}
    for images, _ in ordered_batches(data.test, config.evaluation.batch_size, device):
        out = model(images)
        for name, metric in (("mse", mse), ("psnr", psnr), ("ssim", ssim)):
            values[name].append(metric(out.reconstruction, images).cpu())
        counts += torch.bincount(out.quantized.indices.flatten(), minlength=len(counts))
    means = {name: float(torch.cat(parts).double().mean()) for name, parts in values.items()}
    return {
        "data": data.name,
        "images": len(data.test),
        **means,
        "perplexity": float(perplexity(counts)),
        "perplexity_window": "data set",
        "tokens": int(counts.sum()),
        "utilisation": float(utilisation(counts)),
    }
