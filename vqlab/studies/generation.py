"""How well models generate: the arms that are compared, one table over them, and what to look at beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vqlab.errors import InputError
from vqlab.metrics import real_distances
from vqlab.studies.study import StudyTable, interval
from vqlab.training import Run
from vqlab.training.device import find_device

if TYPE_CHECKING:
    import pandas as pd

REAL = "real test images"
COLUMNS = {
    "mse": "MSE",
    "psnr": "PSNR (dB)",
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
_THOUSANDTHS = ("sample_kd_classifier", "sample_kid")
ABSENT = "–"
_CHUNK = 256


def generation_arms(profile: str) -> dict[str, dict[str, Any]]:
    """The models of the table as arms of a Study: the VQ-VAE, the baselines (paper §4.1.3), priors on the VQ-VAE.

    ``quick`` takes smaller networks, so that all of them are trained in about a minute.
    """
    small = profile == "quick"
    prior = {"prior.width": 64, "prior.layers": 2, "prior.epochs": 3, "prior.sample_steps": 25} if small else {}
    return {
        "VQ-VAE": {},
        "VAE": {"model.kind": "vae"},
        "GAN": {"model.kind": "gan", **({"gan.width": 24} if small else {})},
        "VQ-VAE + transformer": {"prior.kind": "transformer", **prior},
        "VQ-VAE + diffusion": {"prior.kind": "diffusion", **prior, "prior.width": 32 if small else 64},
    }


def generation_table(study: StudyTable, *, inception: bool | None = None) -> pd.DataFrame:
    """One row a model, COLUMNS by their labels, as text; the first row is the floor, real images in place of samples.

    Means over seeds with their 95 % interval; with one seed, the value ± 1.96 standard errors over images. A prior's
    reconstruction columns are its VQ-VAE's; its parameters and seconds are the sum of both. A model that could not be
    trained has its reason in the column ``note``. inception: as in Run.evaluation.
    """
    import pandas as pd

    rows: dict[str, dict[str, str]] = {}
    measured: dict[str, list[dict[str, Any]]] = {}
    for arm, part in study.rows.groupby("arm", sort=False):
        failed = next((reason for reason in part["error"] if reason), "")
        runs = [Run.open(study.root / run) for run in part[part["error"] == ""]["run"]]
        measured[str(arm)] = [_measured(run, inception) for run in runs]
        rows[str(arm)] = {**_texts(measured[str(arm)]), "note": failed}
        if runs and REAL not in measured:
            device = find_device()
            asked = device.startswith("cuda") if inception is None else inception
            measured[REAL] = [real_distances(runs[0].data(), device, inception=asked)]
    if REAL not in measured:
        raise InputError("generation table: no model was trained; see the study's column error")
    floor = {REAL: {**_texts(measured[REAL]), "note": ""}}
    return pd.DataFrame({**floor, **rows}).T


def _measured(run: Run, inception: bool | None) -> dict[str, Any]:
    stages = {stage.config.id: stage for stage in (run.codec(), run)}
    seconds = sum(stage.provenance["wall_seconds"] for stage in stages.values())
    return {**run.evaluation(inception=inception), "seconds": seconds}


def _texts(seeds: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {label: _text(name, seeds) for name, label in COLUMNS.items()}


def _text(name: str, seeds: Sequence[Mapping[str, Any]]) -> str:
    import pandas as pd

    scale = 1000 if name in _THOUSANDTHS else 1
    values = [scale * row[name] for row in seeds if row.get(name) is not None]
    if not values:
        return ABSENT
    if name in ("parameters", "seconds"):
        return f"{sum(values) / len(values):,.0f}"
    mean, low, high = interval(pd.Series(values))
    error = seeds[0].get(f"{name}_error")
    if not math.isnan(low):
        return f"{mean:.4g} [{low:.4g}, {high:.4g}]"
    return f"{mean:.4g}" if error is None else f"{mean:.4g} ± {1.96 * scale * error:.2g}"
