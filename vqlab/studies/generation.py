"""Generative models compared: the arms of the study and one table of its results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vqlab.metrics import real_image_distances
from vqlab.studies.failed_rows import none_finished
from vqlab.studies.measures import confidence_interval, format_interval
from vqlab.studies.study_table import StudyTable
from vqlab.training import Run
from vqlab.training.device import find_device

if TYPE_CHECKING:
    import pandas as pd

REAL_IMAGES = "real test images"
COLUMNS = {
    "mse": "MSE",
    "psnr": "PSNR (dB)",
    "psnr_pooled": "pooled PSNR (dB)",
    "ssim": "SSIM",
    "rfd_classifier": "rFD-classifier",
    "rfid": "rFID",
    "sample_fd_classifier": "sample FD-classifier",
    "sample_fid": "sample FID",
    "sample_kd_classifier": "sample KD-classifier (10³)",
    "sample_kid": "sample KID (10³)",
    "sample_precision_classifier": "precision",
    "sample_recall_classifier": "recall",
    "parameters": "parameters",
    "seconds": "training (s)",
}
MISSING = "–"
# With any profile: the settings of the VQ-VAE's optimizer do not suit two networks against each other.
_GAN: dict[str, Any] = {
    "model.kind": "gan", "gan.discriminator": "sngan", "optim.optimizer": "adam", "optim.learning_rate": 2e-4,
    "optim.schedule": "linear", "optim.warmup": 0.0, "optim.batch_size": 32, "optim.ema": 0.99,
}  # fmt: skip
# Of profile ``quick``: with a few hundred steps the average of the weights would be that of the start.
_QUICK_GAN: dict[str, Any] = {
    **_GAN, "gan.discriminator": "dcgan", "gan.width": 16, "optim.learning_rate": 5e-4, "optim.batch_size": 16,
    "optim.ema": 0.9,
}  # fmt: skip
_IN_THOUSANDTHS = ("sample_kd_classifier", "sample_kid")


def generation_arms(profile: str) -> dict[str, dict[str, Any]]:
    """Arms of the study ``generation``: the VQ-VAE, a VAE and a GAN (paper §4.1.3), and two priors on the VQ-VAE.

    Args:
        profile: ``quick`` uses smaller networks, which train in about a minute together; any other profile uses the
            networks of the Config's defaults.

    Returns:
        Changes to the base Config by dotted field, by name of the arm.

    Example:
        >>> list(generation_arms("quick"))
        ['VQ-VAE', 'VAE', 'GAN', 'VQ-VAE + transformer', 'VQ-VAE + diffusion']
    """
    small = profile == "quick"
    gan = _QUICK_GAN if small else {**_GAN, "gan.width": 32}
    prior = {"prior.width": 64, "prior.layers": 2, "prior.epochs": 2, "prior.sample_steps": 10} if small else {}
    return {
        "VQ-VAE": {},
        "VAE": {"model.kind": "vae"},
        "GAN": gan,
        "VQ-VAE + transformer": {"prior.kind": "transformer", **prior},
        "VQ-VAE + diffusion": {"prior.kind": "diffusion", **prior, "prior.width": 32 if small else 64},
    }


def generation_table(study: StudyTable, *, inception: bool | None = None) -> pd.DataFrame:
    """Reconstruction and sample quality, size and training time of each arm, as text.

    The reconstruction columns of a prior are those of its VQ-VAE; its parameters and training time are the sums over
    both stages.

    Args:
        study: the table of a Study whose arms are ``generation_arms`` or other models.
        inception: also compute FID and KID on Inception features; None computes them on CUDA only.

    Returns:
        The columns ``COLUMNS`` by label, and ``note``: the reason why a Run of the arm failed, else "". The first row
        compares the real test images with the training images: the best value that samples can be expected to reach.
        Then one row for each arm. A cell holds the mean over seeds with its 95 % confidence interval; for one seed,
        the value ± 1.96 standard errors over images; ``MISSING`` where nothing was measured.

    Raises:
        InputError: if no model of the study was trained.
    """
    import pandas as pd

    rows: dict[str, dict[str, str]] = {}
    real: dict[str, Any] | None = None
    for arm, part in study.rows.groupby("arm", sort=False):
        reason = next((reason for reason in part["error"] if reason), "")
        runs = [Run.open(study.root / run) for run in part[part["error"] == ""]["run"]]
        rows[str(arm)] = {**_format_row([_measure(run, inception) for run in runs]), "note": reason}
        if runs and real is None:
            device = find_device()
            with_inception = device.startswith("cuda") if inception is None else inception
            real = real_image_distances(runs[0].data(), device, inception=with_inception)
    if real is None:
        raise none_finished(study.rows, "generation table: no model", "run the study, or fix the reason first")
    return pd.DataFrame({REAL_IMAGES: {**_format_row([real]), "note": ""}, **rows}).T


def _measure(run: Run, inception: bool | None) -> dict[str, Any]:
    stages = {stage.config.id: stage for stage in (run.codec(), run)}
    seconds = sum(stage.provenance["wall_seconds"] for stage in stages.values())
    return {**run.evaluation(inception=inception), "seconds": seconds}


def _format_row(seeds: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {label: _format_cell(name, seeds) for name, label in COLUMNS.items()}


def _format_cell(name: str, seeds: Sequence[Mapping[str, Any]]) -> str:
    import pandas as pd

    scale = 1000 if name in _IN_THOUSANDTHS else 1
    values = [scale * row[name] for row in seeds if row.get(name) is not None]
    if not values:
        return MISSING
    if name in ("parameters", "seconds"):
        return f"{sum(values) / len(values):,.0f}"
    mean, low, high = confidence_interval(pd.Series(values))
    error = seeds[0].get(f"{name}_error")
    if math.isnan(low) and error is not None:
        return f"{mean:.4g} ± {1.96 * scale * error:.2g}"
    return format_interval(mean, low, high)
