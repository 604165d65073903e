"""What the transport did to the gradient at a step of training: means and histograms over its tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vqlab.models import VQVAEOutput
from vqlab.probe import token_records

# Histogram edges of each logged quantity: degrees, or the logarithm to base 10 of a ratio.
HISTOGRAM_EDGES = {
    "angle_gradients": torch.linspace(0, 180, 91),
    "angle_codes": torch.linspace(0, 180, 91),
    "angle_at_q": torch.linspace(0, 180, 91),
    "angle_at_e": torch.linspace(0, 180, 91),
    "log_rescale": torch.linspace(-1, 1, 81),
    "log_length_ratio": torch.linspace(-1, 1, 81),
}


def gradient_records(error: Tensor, out: VQVAEOutput) -> dict[str, Tensor]:
    """``token_records`` of a step, and ``commitment_share``; error: the reconstruction term, its graph stays usable.

    commitment_share, 0…1: how much of the pull on z_e is commitment, c/(c+r), where c and r are the lengths of the
    gradients of the VQ loss and of the reconstruction term at a token; NaN where there is no pull.
    """
    z_q, z_e = out.quantized.z_q, out.z_e
    (at_codes,) = torch.autograd.grad(error, z_q, retain_graph=True)
    (carried,) = torch.autograd.grad(z_q, z_e, at_codes, retain_graph=True)
    (committed,) = torch.autograd.grad(out.quantized.loss, z_e, retain_graph=True)
    e, q, at_q, at_e = (t.detach().movedim(1, -1).reshape(-1, t.shape[1]) for t in (z_e, z_q, at_codes, carried))
    pull = committed.movedim(1, -1).reshape(-1, e.shape[1]).norm(dim=1)
    return {**token_records(e, q, at_q, at_e), "commitment_share": pull / (pull + at_e.norm(dim=1))}


def histograms(records: dict[str, Tensor]) -> dict[str, list[int]]:
    """Tokens in each bin of EDGES; values beyond the ends count in the end bins, NaN nowhere."""
    values = {
        **records,
        "log_rescale": records["rescale"].log10(),
        "log_length_ratio": records["length_ratio"].log10(),
    }
    return {name: _counts(values[name], edges) for name, edges in HISTOGRAM_EDGES.items()}


def _counts(values: Tensor, edges: Tensor) -> list[int]:
    known = values[values.isfinite()].cpu()
    bins = torch.bucketize(known, edges[1:-1])
    return torch.bincount(bins, minlength=len(edges) - 1).tolist()


def means(records: dict[str, Tensor]) -> dict[str, Any]:
    """The step's columns of metrics.jsonl: means over tokens, and the share more than 90° from their code."""
    names = {"cos_gradients": "gradient_cosine", "length_ratio": "gradient_length_ratio",
             "angle_codes": "angle_codes", "rescale": "rescale", "commitment_share": "commitment_share"}  # fmt: skip
    values = {new: float(records[name].nanmean()) for name, new in names.items()}
    return {**values, "obtuse_share": float((records["angle_codes"] > 90).float().mean())}
