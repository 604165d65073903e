"""Descriptions of a Run, as one line and as an HTML card for notebooks; only existing files are read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from vqlab.files import read_json
from vqlab.quantize.display import bar_chart_svg, summary_html
from vqlab.training.logs import read_rows
from vqlab.training.run_folder import RunFolder

_KINDS = {
    "vqvae": "VQ-VAE",
    "vae": "VAE",
    "gan": "GAN",
    "transformer": "transformer prior",
    "diffusion": "diffusion prior",
}
# The numbers of each kind that may be shown, the most informative first: label and format by column.
_RECONSTRUCTION = {"psnr": ("PSNR", "{:.2f} dB"), "ssim": ("SSIM", "{:.3f}")}
_SAMPLES = {"sample_fid": ("sample FID", "{:.2f}"), "sample_fd_classifier": ("sample FD-classifier", "{:.3g}")}
_LOSS = {"loss": ("loss (last logged step)", "{:.4g}")}
_NUMBERS = {
    "vqvae": {**_RECONSTRUCTION, "perplexity": ("perplexity ({part} images)", "{:.1f}")},
    "vae": {**_SAMPLES, **_RECONSTRUCTION, **_LOSS},
    "gan": {**_SAMPLES, "sample_spread": ("standard deviation of samples", "{:.3f}"), **_LOSS},
    "transformer": {**_SAMPLES, "nats_a_code": ("nats per code (test images)", "{:.3f}"), **_LOSS},
    "diffusion": {**_SAMPLES, "denoising_error": ("denoising error (test images)", "{:.3f}"), **_LOSS},
}
_MAX_NUMBERS = 3
_Value = TypeVar("_Value")


def describe_run(run: RunFolder) -> str:
    """Describe a Run in one line.

    Args:
        run: any Run, also an unfinished one or one with damaged files.

    Returns:
        Id, kind, transport, data, status and folder.
    """
    transport = f" with {run.config.quantizer.transport}" if _has_quantizer(run) else ""
    text = f"{_KINDS[run.config.kind]}{transport} on {run.config.data.source}, {_status(run)}, {run.folder}"
    return f"Run({run.config.id}: {' '.join(text.split())})"


def run_html(run: RunFolder) -> str:
    """Build an HTML card of a Run: what it is, its status, up to three numbers, and the codebook usage of a VQ-VAE.

    Nothing is computed: a number that is not in a file is left out, and unreadable files are named.

    Args:
        run: any Run, also an unfinished one or one with damaged files.

    Returns:
        One HTML element.
    """
    unreadable: list[str] = []

    def read(name: str, function: Callable[[], _Value]) -> _Value | None:
        try:
            return function() if (run.folder / name).is_file() else None
        except Exception:  # A damaged file may raise anything, and a repr must not fail.
            unreadable.append(name)
            return None

    logged = read("metrics.jsonl", lambda: _shown_columns(_logged_columns(run)))
    measured = read("evaluation.json", lambda: _shown_columns(read_json(run.folder / "evaluation.json")))
    picture = read("codebook.npz", lambda: _usage_chart(run)) if run.config.kind == "vqvae" else None
    numbers = _formatted_numbers(run.config.kind, {**(logged or {}), **(measured or {})})
    facts = {"data": run.config.data.source, "status": _status(run), **numbers}
    if _has_quantizer(run):
        facts = {"transport": run.config.quantizer.transport, **facts}
    if unreadable:
        facts["unreadable files"] = ", ".join(unreadable)
    return summary_html(f"{_KINDS[run.config.kind]}, Run {run.config.id}", facts, picture or "")


def _has_quantizer(run: RunFolder) -> bool:
    return run.config.model.kind == "vqvae"


def _status(run: RunFolder) -> str:
    try:
        if run.finished:
            return "finished"
        step = run.provenance.get("step")
    except Exception:  # as above
        return "provenance.json is unreadable"
    return f"unfinished, at step {step}" if step else "unfinished, no checkpoint"


def _logged_columns(run: RunFolder) -> dict[str, Any]:
    rows = read_rows(run.folder / "metrics.jsonl")
    # The perplexity of a training step is that of one batch, so only the loss is taken from these rows.
    losses = [{"loss": row["loss"]} for row in rows if row["kind"] == "train"]
    epochs = [row for row in rows if row["kind"] == "epoch"]
    return {**(losses[-1] if losses else {}), **(epochs[-1] if epochs else {})}


def _shown_columns(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The finite numbers, and the part of the images that they were measured on."""
    numbers = {name: value for name, value in columns.items() if isinstance(value, int | float)}
    finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
    return {**finite, "part": str(columns.get("part", "test"))}


def _formatted_numbers(kind: str, columns: Mapping[str, Any]) -> dict[str, str]:
    names = [name for name in _NUMBERS[kind] if name in columns][:_MAX_NUMBERS]
    shown = [(*_NUMBERS[kind][name], columns[name]) for name in names]
    return {label.format(part=columns["part"]): text.format(number) for label, text, number in shown}


def _usage_chart(run: RunFolder) -> str:
    # The epochs that an unfinished training has not reached count 0.
    places = range(run.config.quantizer.codes_per_vector)
    usage = np.concatenate([run.usage(place) for place in places], axis=1)
    epochs = [counts for counts in usage if counts.sum()]
    if not epochs:
        return ""
    return bar_chart_svg(sorted(epochs[-1].tolist(), reverse=True), "tokens per code in the last epoch, sorted")
