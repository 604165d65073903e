"""The registered backward rules: straight-through (also weighted), rotation (two forms), its factors, reflection.

Every rule takes the gradient g at the code, encoder vectors e and codes q, (N, D) each, and returns the gradient of
e, (N, D). Notation: ê = e/‖e‖, q̂ = q/‖q‖, c = ê·q̂, λ = ‖q‖/‖e‖. No D×D matrix is formed.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from vqlab.quantize.floors import DIRECTION_FLOOR, MAX_RESCALE, NORM_FLOOR
from vqlab.quantize.transports import Column, Groups, RowLengths, Rows, register_backward


def _norms(e: Rows, q: Rows) -> tuple[Column, Column]:
    """‖e‖ and ‖q‖ as (N, 1)."""
    return torch.linalg.vector_norm(e, dim=1, keepdim=True), torch.linalg.vector_norm(q, dim=1, keepdim=True)


def _units_and_rescale(e: Rows, q: Rows) -> tuple[Rows, Rows, Column]:
    """Unit vectors ê and q̂, and λ = ‖q‖/‖e‖ as (N, 1)."""
    e_norm, q_norm = (norm.clamp_min(NORM_FLOOR) for norm in _norms(e, q))
    return e / e_norm, q / q_norm, q_norm / e_norm


def _dot(a: Rows, b: Rows) -> Column:
    return (a * b).sum(dim=1, keepdim=True)


def _rescale_undefined(e: Rows, q: Rows) -> Bool[Tensor, " N"]:
    return _rescale_undefined_by_norms(*_norms(e, q))


def _rescale_undefined_by_norms(e_norm: Column, q_norm: Column) -> Bool[Tensor, " N"]:
    return ((e_norm <= NORM_FLOOR) | (q_norm <= NORM_FLOOR) | (q_norm > MAX_RESCALE * e_norm))[:, 0]


def _direction_undefined(e: Rows, q: Rows, sign: int) -> Bool[Tensor, " N"]:
    """Where ê + sign · q̂ is nearly 0, or λ is not usable."""
    e_norm, q_norm = _norms(e, q)
    total = torch.add(e / e_norm.clamp_min(NORM_FLOOR), q / q_norm.clamp_min(NORM_FLOOR), alpha=sign)
    return (total.square().sum(dim=1) < DIRECTION_FLOOR) | _rescale_undefined_by_norms(e_norm, q_norm)


def _nearly_opposite(lengths: RowLengths) -> Bool[Tensor, " N"]:
    """Where e and q may be opposite or of very different lengths, or one of them of length nearly 0."""
    # With a = ‖e‖ and b = ‖q‖, 2ab (1 + c) = (a + b)² − ‖e − q‖² is resolved unless it is a small part of (a + b)², as
    # it also is if a/b is far from 1. Below 10⁻⁹, the root of 10⁻¹⁸, a + b is suspect, and so is NaN.
    return ~(lengths.squares < ((lengths.e + lengths.q) * 0.9975).square() - 1e-18)


def _nearly_parallel(lengths: RowLengths) -> Bool[Tensor, " N"]:
    """Where e and q may be parallel, or λ may not be usable."""
    # Wide bounds: these lengths are rounded otherwise than those of the masks, and NaN is suspect.
    cosines = (lengths.e.square() + lengths.q.square() - lengths.squares) / (2 * lengths.e * lengths.q)
    usable = (lengths.e > 10 * NORM_FLOOR) & (lengths.q > 10 * NORM_FLOOR) & (lengths.q < MAX_RESCALE / 2 * lengths.e)
    return ~(usable & (cosines < 0.99))


def rotation_undefined(e: Rows, q: Rows) -> Bool[Tensor, " N"]:
    """Find the rows without a unique rotation from e to q, or without a usable λ.

    These are rows with ‖ê + q̂‖² < 10⁻⁶ (opposite vectors), ‖e‖ or ‖q‖ ≤ 10⁻¹², or λ > 10⁶.

    Args:
        e: Encoder vectors, (N, D).
        q: Their codes, (N, D).

    Returns:
        Mask, (N,), True where the rotation is undefined.

    Example:
        >>> e = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
        >>> rotation_undefined(e, torch.tensor([[-1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]))
        tensor([ True, False,  True])
    """
    return _direction_undefined(e, q, 1)


def reflection_undefined(e: Rows, q: Rows) -> Bool[Tensor, " N"]:
    """Find the rows without a unique reflection from e to q, or without a usable λ.

    These are rows with ‖ê − q̂‖² < 10⁻⁶ (parallel vectors), ‖e‖ or ‖q‖ ≤ 10⁻¹², or λ > 10⁶.

    Args:
        e: Encoder vectors, (N, D).
        q: Their codes, (N, D).

    Returns:
        Mask, (N,), True where the reflection is undefined.

    Example:
        >>> e = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> reflection_undefined(e, torch.tensor([[2.0, 0.0], [1.0, 0.0]]))
        tensor([ True, False])
    """
    return _direction_undefined(e, q, -1)


@register_backward(
    "straight_through",
    source="Bengio et al., Estimating or Propagating Gradients Through Stochastic Neurons, 2013",
)
def straight_through(g: Rows, e: Rows, q: Rows) -> Rows:
    """Compute the straight-through gradient ∇ₑ = g.

    Args:
        g: Gradients at the codes, (N, D).
        e: Encoder vectors, (N, D); unused.
        q: Their codes, (N, D); unused.

    Returns:
        Gradients of e, (N, D).
    """
    return g


def _rotate_back_by_lengths(g: Rows, e: Rows, q: Rows, lengths: RowLengths, pull: Tensor | None) -> Rows:
    """λRᵀg + pull · (e − q) as a sum of g, e and q with a coefficient for each row, with one tensor for all steps.

    It passes over memory 7 times, ``rotation`` 16 times. Rounding differs.
    """
    e_norm, q_norm, place = lengths.e, lengths.q, torch.empty_like(g)
    e_g, q_g = (torch.mul(rows, g, out=place).sum(dim=1) for rows in (e, q))
    # (ê·g + q̂·g) / (1 + c), with 1 + c = ((‖e‖ + ‖q‖)² − ‖e − q‖²) / (2‖e‖‖q‖)
    along_total = 2 * torch.addcmul(e_g * q_norm, q_g, e_norm) / ((e_norm + q_norm).square() - lengths.squares)
    along_e = (2 * q_g - q_norm * along_total) / e_norm.square()
    along_q, rescale = -along_total / e_norm, q_norm / e_norm
    if pull is not None:
        along_e, along_q = along_e + pull, along_q - pull
    turned = torch.mul(g, rescale[:, None], out=place)
    return turned.addcmul_(e, along_e[:, None]).addcmul_(q, along_q[:, None])


@register_backward(
    "rotation",
    undefined=rotation_undefined,
    suspect=_nearly_opposite,
    kernel="rotation_by_kernel",
    by_lengths=_rotate_back_by_lengths,
    source="Fifty et al., Restructuring Vector Quantization with the Rotation Trick, 2024",
)
def rotation(g: Rows, e: Rows, q: Rows) -> Rows:
    """Compute ∇ₑ = λRᵀg with R = I − 2rrᵀ + 2q̂êᵀ, r = (ê + q̂)/‖ê + q̂‖, the Householder form of the rotation.

    Expanded, Rᵀg = g − (ê·g + q̂·g)/(1 + c) (ê + q̂) + 2 (q̂·g) ê (Fifty et al., Restructuring Vector Quantization with
    the Rotation Trick, 2024).

    Args:
        g: Gradients at the codes, (N, D).
        e: Encoder vectors, (N, D).
        q: Their codes, (N, D).

    Returns:
        Gradients of e, (N, D).
    """
    e_unit, q_unit, rescale = _units_and_rescale(e, q)
    return rescale * _rotate_back(g, e_unit, q_unit)


def _rotate_back(g: Rows, e_unit: Rows, q_unit: Rows) -> Rows:
    """Rᵀg, in the Householder form."""
    total = e_unit + q_unit
    # 1 + c = ‖ê+q̂‖²/2 does not cancel where c is near −1.
    one_plus_cos = (total.square().sum(dim=1, keepdim=True) / 2).clamp_min(DIRECTION_FLOOR / 2)
    e_g, q_g = _dot(e_unit, g), _dot(q_unit, g)
    turned = torch.addcmul(g, total, (e_g + q_g) / one_plus_cos, value=-1)
    return torch.addcmul(turned, e_unit, 2 * q_g)


@register_backward(
    "rotation_unscaled",
    undefined=rotation_undefined,
    suspect=_nearly_opposite,
    source="Fifty et al., Restructuring Vector Quantization with the Rotation Trick, 2024, appendix A.9",
)
def rotation_unscaled(g: Rows, e: Rows, q: Rows) -> Rows:
    """Compute ∇ₑ = Rᵀg: the rotation of ``rotation`` without its factor λ.

    Args:
        g: Gradients at the codes, (N, D).
        e: Encoder vectors, (N, D).
        q: Their codes, (N, D).

    Returns:
        Gradients of e, (N, D).
    """
    e_unit, q_unit, _ = _units_and_rescale(e, q)
    return _rotate_back(g, e_unit, q_unit)


def _inverse_distance(e: Rows, q: Rows) -> Column:
    return 1 / (8 * (q - e).square().sum(dim=1, keepdim=True))


def inverse_distance_undefined(e: Rows, q: Rows) -> Bool[Tensor, " N"]:
    """Find the rows without a unique rotation from e to q, or with 1/(8‖q − e‖²) > 10⁶, as where e is its code.

    Args:
        e: Encoder vectors, (N, D).
        q: Their codes, (N, D).

    Returns:
        Mask, (N,), True where the rule is undefined.
    """
    return rotation_undefined(e, q) | ~(_inverse_distance(e, q)[:, 0] <= MAX_RESCALE)


@register_backward(
    "rotation_inverse_distance",
    undefined=inverse_distance_undefined,
    source="Fifty et al., Restructuring Vector Quantization with the Rotation Trick, 2024, with another factor",
)
def rotation_inverse_distance(g: Rows, e: Rows, q: Rows) -> Rows:
    """Compute ∇ₑ = γRᵀg with γ = 1/(8‖q − e‖²): the rotation of ``rotation``, and a factor that falls with distance.

    Args:
        g: Gradients at the codes, (N, D).
        e: Encoder vectors, (N, D).
        q: Their codes, (N, D).

    Returns:
        Gradients of e, (N, D).
    """
    e_unit, q_unit, _ = _units_and_rescale(e, q)
    return _inverse_distance(e, q) * _rotate_back(g, e_unit, q_unit)


@register_backward(
    "rescale",
    undefined=_rescale_undefined,
    source="the factor λ of Fifty et al., Restructuring Vector Quantization with the Rotation Trick, 2024, alone",
)
def rescale(g: Rows, e: Rows, q: Rows) -> Rows:
    """Compute ∇ₑ = λg: the factor of ``rotation`` without its rotation.

    Args:
        g: Gradients at the codes, (N, D).
        e: Encoder vectors, (N, D).
        q: Their codes, (N, D).

    Returns:
        Gradients of e, (N, D).
    """
    return _units_and_rescale(e, q)[2] * g


@register_backward(
    "rodrigues",
    undefined=rotation_undefined,
    suspect=_nearly_opposite,
    source="Rodrigues, 1840, in the form without angles; the same map as rotation",
)
def rodrigues(g: Rows, e: Rows, q: Rows) -> Rows:
    """Compute ∇ₑ = λRᵀg with R = I + K + K²/(1 + c), K = q̂êᵀ − êq̂ᵀ, the Rodrigues form of the rotation.

    R is the same matrix as in ``rotation``, in any dimension; cost and rounding differ.

    Args:
        g: Gradients at the codes, (N, D).
        e: Encoder vectors, (N, D).
        q: Their codes, (N, D).

    Returns:
        Gradients of e, (N, D).
    """
    e_unit, q_unit, rescale = _units_and_rescale(e, q)
    one_plus_cos = ((e_unit + q_unit).square().sum(dim=1, keepdim=True) / 2).clamp_min(DIRECTION_FLOOR / 2)

    def skew(v: Rows) -> Rows:
        return q_unit * _dot(e_unit, v) - e_unit * _dot(q_unit, v)

    skew_g = skew(g)
    return rescale * (g - skew_g + skew(skew_g) / one_plus_cos)


@register_backward(
    "reflection",
    undefined=reflection_undefined,
    suspect=_nearly_parallel,
    source="one Householder reflection, determinant −1, for comparison with the rotation",
)
def reflection(g: Rows, e: Rows, q: Rows) -> Rows:
    """Compute ∇ₑ = λMg with the Householder reflection M = I − 2uuᵀ, u = (ê − q̂)/‖ê − q̂‖.

    M maps ê to q̂ as the rotation does, but has determinant −1: it keeps all directions orthogonal to u.

    Args:
        g: Gradients at the codes, (N, D).
        e: Encoder vectors, (N, D).
        q: Their codes, (N, D).

    Returns:
        Gradients of e, (N, D).
    """
    e_unit, q_unit, rescale = _units_and_rescale(e, q)
    difference = e_unit - q_unit
    squared_length = difference.square().sum(dim=1, keepdim=True).clamp_min(DIRECTION_FLOOR)
    return rescale * (g - 2 * _dot(difference, g) / squared_length * difference)


@register_backward("dynamic", source="Tang et al., StableVQ, 2026: dynamic straight-through estimation", by_code=True)
def dynamic(g: Rows, e: Rows, q: Rows, groups: Groups) -> Rows:
    """Compute ∇ₑ = wg, with w = min ‖e′ − q‖² / ‖e − q‖² over the rows e′ that have the code of e.

    The vector nearest to its code has weight 1, and the others the less the farther away they are.

    Args:
        g: Gradients at the codes, (N, D).
        e: Encoder vectors, (N, D).
        q: Their codes, (N, D).
        groups: Groups of rows with the same code, (N,), in 0…N−1.

    Returns:
        Gradients of e, (N, D).
    """
    squares = (e - q).square().sum(dim=1)
    squares = torch.where(squares.isfinite(), squares, torch.inf)
    least = torch.full_like(squares, torch.inf).scatter_reduce(0, groups, squares, "amin")[groups]
    return torch.where(squares > least, least / squares, 1)[:, None] * g
