"""Gradients at the quantizer in one training step: values per token, their means and their histograms."""

from __future__ import annotations

import torch
from torch import Tensor

from vqlab.models import VQVAEOutput
from vqlab.probe import token_records
from vqlab.quantize import Quantizer

# Bin edges of each logged histogram: degrees, or the logarithm to base 10 of a ratio.
HISTOGRAM_EDGES = {
    "angle_gradients": torch.linspace(0, 180, 91),
    "angle_codes": torch.linspace(0, 180, 91),
    "angle_at_q": torch.linspace(0, 180, 91),
    "angle_at_e": torch.linspace(0, 180, 91),
    "log_rescale": torch.linspace(-1, 1, 81),
    "log_length_ratio": torch.linspace(-1, 1, 81),
}
# Column of metrics.jsonl for each record that is averaged.
_MEAN_COLUMNS = {
    "cos_gradients": "gradient_cosine",
    "length_ratio": "gradient_length_ratio",
    "angle_codes": "angle_codes",
    "rescale": "rescale",
    "commitment_share": "commitment_share",
}


def gradient_records(
    reconstruction_loss: Tensor, output: VQVAEOutput, quantizer: Quantizer, scale: float = 1.0
) -> dict[str, Tensor]:
    """Measure the gradients of a training step at the quantizer, token by token.

    Vectors, codes and their gradients are those inside the projections of ``code_dim``, where the transport acts. The
    commitment share is ‖g_c‖ / (‖g_c‖ + ‖g_r‖), where g_c and g_r are the gradients of the VQ loss and of the
    reconstruction loss at z_e: 0 without commitment, 1 if only the commitment term moves the encoder.

    Args:
        reconstruction_loss: scalar of the step, with its graph, which stays usable for ``backward``.
        output: the model's output for the same step, with its graph.
        quantizer: the layer that gave it.
        scale: factor of the loss in the backward pass, for gradients that float16 would round to 0. Default 1.

    Returns:
        The columns of ``vqlab.probe.COLUMNS`` and ``commitment_share``, each float (tokens,); NaN where a value is
        undefined, as the commitment share of a token whose two gradients are zero.
    """
    z_q, z_e = output.quantized.z_q, output.z_e
    (grad_z_q,) = torch.autograd.grad(reconstruction_loss * scale, z_q, retain_graph=True)
    (grad_z_e,) = torch.autograd.grad(z_q, z_e, grad_z_q, retain_graph=True)
    if scale != 1:
        grad_z_q, grad_z_e = grad_z_q.float() / scale, grad_z_e.float() / scale
    vq_loss = output.quantized.loss
    # Fixed codes have no commitment term, or one without a graph.
    grad_vq = (
        torch.autograd.grad(vq_loss, z_e, retain_graph=True)[0] if vq_loss.requires_grad else torch.zeros_like(z_e)
    )
    e, q, g_q, g_e = (t.detach().movedim(1, -1).reshape(-1, t.shape[1]) for t in (z_e, z_q, grad_z_q, grad_z_e))
    commitment_norm = grad_vq.movedim(1, -1).reshape(-1, e.shape[1]).norm(dim=1)
    share = commitment_norm / (commitment_norm + g_e.norm(dim=1))
    return {**token_records(*quantizer.to_code_space(e, q, g_q, g_e)), "commitment_share": share}


def gradient_histograms(records: dict[str, Tensor]) -> dict[str, list[int]]:
    """Count tokens per histogram bin: one row of ``angles.jsonl``.

    Args:
        records: the columns of ``vqlab.probe.COLUMNS``, each float (tokens,).

    Returns:
        For each key of HISTOGRAM_EDGES, the number of tokens in each bin. The first and last bin also count the
        values beyond the edges; NaN and infinite values are not counted.
    """
    values = {
        **records,
        "log_rescale": records["rescale"].log10(),
        "log_length_ratio": records["length_ratio"].log10(),
    }
    return {name: _bin_counts(values[name], edges) for name, edges in HISTOGRAM_EDGES.items()}


def _bin_counts(values: Tensor, edges: Tensor) -> list[int]:
    finite = values[values.isfinite()].cpu()
    bins = torch.bucketize(finite, edges[1:-1])
    return torch.bincount(bins, minlength=len(edges) - 1).tolist()


def gradient_means(records: dict[str, Tensor]) -> dict[str, float]:
    """Average the records over tokens: columns of ``metrics.jsonl``.

    Args:
        records: the result of ``gradient_records``.

    Returns:
        ``gradient_cosine``, ``gradient_length_ratio``, ``angle_codes`` (degrees), ``rescale`` and
        ``commitment_share``, means without NaN; and ``obtuse_share``, the share of tokens in 0…1 whose z_e is more
        than 90° from its code.
    """
    means = {column: float(records[name].nanmean()) for name, column in _MEAN_COLUMNS.items()}
    return {**means, "obtuse_share": float((records["angle_codes"] > 90).float().mean())}
