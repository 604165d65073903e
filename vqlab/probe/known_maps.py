"""Which known map the backward of a module is: from the gradient at z_q to the gradient at z_e."""

from __future__ import annotations

from collections.abc import Callable

import torch

from vqlab.probe.records import PerToken, Rows
from vqlab.quantize import transport_gradient

_TINY = 1e-30


def _transposed_by_mistake(g: Rows, e: Rows, q: Rows) -> Rows:
    """The gradient λRg: R instead of Rᵀ. R turns e to q, so it is the transpose of the rotation from q to e."""
    return (q.norm(dim=1) / e.norm(dim=1).clamp_min(_TINY))[:, None] * transport_gradient(g, q, e, "rotation_unscaled")


KNOWN_MAPS: dict[str, Callable[[Rows, Rows, Rows], Rows]] = {
    "straight-through, g": lambda g, e, q: g,
    "rotation, λRᵀg": lambda g, e, q: transport_gradient(g, e, q, "rotation"),
    "rotation without rescale, Rᵀg": lambda g, e, q: transport_gradient(g, e, q, "rotation_unscaled"),
    "rescale only, λg": lambda g, e, q: transport_gradient(g, e, q, "rescale"),
    "reflection, λMg": lambda g, e, q: transport_gradient(g, e, q, "reflection"),
    "rotation not transposed, λRg": _transposed_by_mistake,
    "error direction removed, g − (d̂·g)d̂": lambda g, e, q: transport_gradient(g, e, q, "diveq_detach"),
    "no gradient, 0": lambda g, e, q: torch.zeros_like(g),
}


def map_residuals(e: Rows, q: Rows, g_q: Rows, g_e: Rows) -> dict[str, PerToken]:
    """Compute how far the gradient at z_e is from what each known map gives, for each token.

    Args:
        e: Encoder vectors, (N, D).
        q: Their codes, (N, D).
        g_q: Gradients at the codes, (N, D).
        g_e: Gradients at the encoder vectors, (N, D).

    Returns:
        ‖∇ₑ − map(g)‖ / ‖∇ₑ‖ by name of the map, (N,) each, float32; the larger of ‖∇ₑ‖ and ‖map(g)‖ is the divisor,
        and 0/0 is 0.

    Example:
        >>> e, q, g = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, 1.0]])
        >>> residuals = map_residuals(e, q, g, torch.tensor([[2.0, 0.0]]))
        >>> min(residuals, key=lambda name: float(residuals[name]))
        'rotation, λRᵀg'
    """
    e, q, g_q, g_e = (tensor.detach().float() for tensor in (e, q, g_q, g_e))
    residuals = {}
    for name, known in KNOWN_MAPS.items():
        expected = known(g_q, e, q)
        length = torch.maximum(g_e.norm(dim=1), expected.norm(dim=1)).clamp_min(_TINY)
        residuals[name] = (g_e - expected).norm(dim=1) / length
    return residuals
