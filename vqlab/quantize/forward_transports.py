"""The registered training-time values: NSVQ and DiVeQ, which autograd differentiates for e and q."""

from __future__ import annotations

import torch

from vqlab.quantize.transports import Column, Rows, register_forward

_DIVEQ_DEVIATION = 1e-3**0.5
_DIVEQ_RELEASED_DEVIATION = 1e-3


def _norms(x: Rows) -> Column:
    return torch.linalg.vector_norm(x, dim=1, keepdim=True)


def _unit_rows(x: Rows) -> Rows:
    return x / _norms(x).clamp_min(1e-12)


@register_forward("nsvq", source="Vali and Bäckström, NSVQ: Noise Substitution in Vector Quantization, 2022")
def nsvq(e: Rows, q: Rows, noise: Rows) -> Rows:
    """Compute z = e + ‖q − e‖ n/‖n‖: an error of the true length in a random direction.

    The gradient is ∇ₑ = g − (n̂·g) (q − e)/‖q − e‖ with n̂ = n/‖n‖ (Vali and Bäckström, NSVQ: Noise Substitution in
    Vector Quantization, 2022).

    Args:
        e: Encoder vectors, (N, D).
        q: Their codes, (N, D).
        noise: n, standard normal, (N, D).

    Returns:
        The training-time value z, (N, D).
    """
    return e + _norms(q - e) * _unit_rows(noise)


@register_forward("diveq", source="Vali et al., DiVeQ: Differentiable Vector Quantization, 2025")
def diveq(e: Rows, q: Rows, noise: Rows) -> Rows:
    """Compute z = e + ‖q − e‖ sg[d/‖d‖] with d = q − e + σn and σ² = 10⁻³: nearly the code, differentiable.

    The gradient is ∇ₑ = g − (d̂·g) (q − e)/‖q − e‖ with d̂ = d/‖d‖ (Vali et al., DiVeQ: Differentiable Vector
    Quantization, 2025).

    Args:
        e: Encoder vectors, (N, D).
        q: Their codes, (N, D).
        noise: n, standard normal, (N, D).

    Returns:
        The training-time value z, (N, D).
    """
    return _towards_code(e, q, _DIVEQ_DEVIATION * noise)


@register_forward("diveq_released", source="Vali et al., DiVeQ, 2025, with the noise of the code that they released")
def diveq_released(e: Rows, q: Rows, noise: Rows) -> Rows:
    """Compute z of ``diveq`` with σ = 10⁻³, the deviation in the authors' code, instead of the variance 10⁻³.

    Args:
        e: Encoder vectors, (N, D).
        q: Their codes, (N, D).
        noise: n, standard normal, (N, D).

    Returns:
        The training-time value z, (N, D).
    """
    return _towards_code(e, q, _DIVEQ_RELEASED_DEVIATION * noise)


@register_forward("diveq_detach", source="Vali et al., DiVeQ, 2025, the variant without noise")
def diveq_detach(e: Rows, q: Rows, noise: Rows) -> Rows:
    """Compute z of ``diveq`` without noise: the code up to rounding, with ∇ₑ = g − (d̂·g) d̂, d̂ = (q − e)/‖q − e‖.

    Args:
        e: Encoder vectors, (N, D).
        q: Their codes, (N, D).
        noise: unused.

    Returns:
        The training-time value z, (N, D).
    """
    return _towards_code(e, q, torch.zeros_like(noise))


def _towards_code(e: Rows, q: Rows, noise: Rows) -> Rows:
    """Value e + ‖q − e‖ sg[d/‖d‖] with d = q − e + noise."""
    return e + _norms(q - e) * _unit_rows((q - e).detach() + noise)
