"""What a quantizer did to the gradient, token by token: angles, lengths and errors."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

Rows = Float[Tensor, "N D"]
PerToken = Float[Tensor, " N"]

COLUMNS = {
    "angle_gradients": "angle of the gradient at z_q to the gradient at z_e (degrees)",
    "cos_gradients": "cosine of the same two gradients",
    "length_ratio": "length of the gradient at z_e over that at z_q",
    "angle_codes": "angle of z_e to its code z_q (degrees)",
    "rescale": "λ = length of z_q over length of z_e",
    "relative_error": "squared distance of z_e to z_q over squared length of z_e",
    "angle_at_q": "angle of the gradient at z_q to z_q (degrees)",
    "angle_at_e": "angle of the gradient at z_e to z_e (degrees)",
}
_TINY = 1e-30


def angles(a: Rows, b: Rows) -> PerToken:
    """Compute the angle between each pair of rows, 2·atan2(‖â − b̂‖, ‖â + b̂‖).

    This form is accurate near 0 and 180 degrees, where arccos of the cosine is not (Kahan, How Futile are Mindless
    Assessments of Roundoff in Floating-Point Computation?, 2006).

    Args:
        a: Vectors, (N, D).
        b: Vectors, (N, D).

    Returns:
        Angles in degrees, (N,), in 0…180; NaN where a vector has length 0 (at most 10⁻³⁰).

    Example:
        >>> angles(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 2.0], [0.0, 2.0]]))
        tensor([90., nan])
    """
    a_norm, b_norm = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    a_unit, b_unit = a / a_norm.clamp_min(_TINY), b / b_norm.clamp_min(_TINY)
    angle = 2 * torch.atan2((a_unit - b_unit).norm(dim=1), (a_unit + b_unit).norm(dim=1))
    is_defined = (a_norm > _TINY) & (b_norm > _TINY)
    return torch.where(is_defined[:, 0], angle.rad2deg(), torch.nan)


def token_records(e: Rows, q: Rows, g_q: Rows | None = None, g_e: Rows | None = None) -> dict[str, PerToken]:
    """Compute the quantities of ``COLUMNS`` for each token, in float32.

    Args:
        e: Encoder vectors, (N, D).
        q: Their codes, (N, D).
        g_q: Gradients at the codes, (N, D). Default None: the columns of gradients are NaN.
        g_e: Gradients at the encoder vectors, (N, D). Default None: likewise.

    Returns:
        Values by column name, (N,) each, on e's device, without a graph.

    Example:
        >>> records = token_records(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
        >>> records["angle_codes"], records["rescale"], records["length_ratio"]
        (tensor([90.]), tensor([2.]), tensor([nan]))
    """
    e, q = e.detach().float(), q.detach().float()
    missing = torch.full((len(e),), torch.nan, device=e.device)
    records = dict.fromkeys(COLUMNS, missing)
    length = e.norm(dim=1)
    records |= {
        "angle_codes": angles(e, q),
        "rescale": q.norm(dim=1) / length,
        "relative_error": (e - q).square().sum(dim=1) / length.square(),
    }
    if g_q is not None and g_e is not None:
        g_q, g_e = g_q.detach().float(), g_e.detach().float()
        between = angles(g_q, g_e)
        records |= {
            "angle_gradients": between,
            "cos_gradients": between.deg2rad().cos(),
            "length_ratio": g_e.norm(dim=1) / g_q.norm(dim=1),
            "angle_at_q": angles(g_q, q),
            "angle_at_e": angles(g_e, e),
        }
    return records
