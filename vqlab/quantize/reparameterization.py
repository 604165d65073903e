"""Methods that train through a value beside the code instead of a rule for the gradient."""

from __future__ import annotations

import torch

from vqlab.quantize.transports import Rows, register_forward

_DIVEQ_VARIANCE = 1e-3


def _length(x: Rows) -> Rows:
    return torch.linalg.vector_norm(x, dim=1, keepdim=True)


def _unit(x: Rows) -> Rows:
    return x / _length(x).clamp_min(1e-12)


@register_forward("nsvq", source="Vali and Bäckström, NSVQ: Noise Substitution in Vector Quantization, 2022")
def nsvq(e: Rows, q: Rows, noise: Rows) -> Rows:
    """z = e + ‖q−e‖·n/‖n‖: the error's length is true, its direction random. ∇ₑ = g − (n̂·g)(q−e)/‖q−e‖."""
    return e + _length(q - e) * _unit(noise)


@register_forward("diveq", source="Vali et al., DiVeQ: Differentiable Vector Quantization, 2025")
def diveq(e: Rows, q: Rows, noise: Rows) -> Rows:
    """z = e + ‖q−e‖·sg[d/‖d‖] with d = q − e + σn, σ² = 10⁻³: nearly the code, with a gradient for e and q."""
    direction = (q - e).detach() + _DIVEQ_VARIANCE**0.5 * noise
    return e + _length(q - e) * _unit(direction)
