"""Gradient transports: what the encoder is told when the decoder's gradient arrives at a code.

A transport is one function ``(g, e, q) -> grad_e`` on rows, plus one ``register`` line: the forward
value is the code itself, bit for bit, and only the backward rule differs. A method that also changes
the value while training is one function ``(e, q, noise) -> z`` and one ``register_value`` line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vqlab.errors import InputError

Rows = Float[Tensor, "N D"]
Rule = Callable[[Rows, Rows, Rows], Rows]
Value = Callable[[Rows, Rows, Rows], Rows]
Mask = Callable[[Rows, Rows], Bool[Tensor, " N"]]

# Squared length of ê+q̂ (or ê−q̂) below which float32 no longer knows its direction: 1e-3 rad.
_DIRECTION_FLOOR = 1e-6
_NORM_FLOOR = 1e-12
_LARGEST_RESCALE = 1e6


@dataclass(frozen=True)
class Transport:
    """A backward rule with the rows where it has no answer (straight-through is used there), or a
    differentiable training value; and its source."""

    name: str
    source: str
    undefined: Mask
    rule: Rule | None = None
    value: Value | None = None


_REGISTRY: dict[str, Transport] = {}


def _defined_everywhere(e: Rows, q: Rows) -> Bool[Tensor, " N"]:
    """No row is undefined."""
    return torch.zeros(len(e), dtype=torch.bool, device=e.device)


def register(name: str, *, undefined: Mask = _defined_everywhere, source: str = "") -> Callable[[Rule], Rule]:
    """Decorator that adds a backward rule ``(g, e, q) -> grad_e`` to the registry under ``name``."""

    def add(rule: Rule) -> Rule:
        _REGISTRY[name] = Transport(name, source, undefined, rule=rule)
        return rule

    return add


def register_forward(name: str, *, source: str = "") -> Callable[[Value], Value]:
    """Decorator that adds a training value ``(e, q, noise) -> z``, differentiated by autograd.

    noise: standard normal, (N, D). In eval mode the value is the code itself.
    """

    def add(value: Value) -> Value:
        _REGISTRY[name] = Transport(name, source, _defined_everywhere, value=value)
        return value

    return add


def transport_names() -> tuple[str, ...]:
    """Names of all registered transports, in order of registration."""
    return tuple(_REGISTRY)


def get_transport(name: str) -> Transport:
    """The registered transport; raises InputError that lists the known names."""
    if name not in _REGISTRY:
        raise InputError(f"transport={name!r}: must be one of {', '.join(_REGISTRY)}")
    return _REGISTRY[name]


def _units(e: Rows, q: Rows) -> tuple[Rows, Rows, Rows]:
    """Unit vectors ê, q̂ and the rescaling λ = ‖q‖/‖e‖ as (N, 1)."""
    e_norm = torch.linalg.vector_norm(e, dim=1, keepdim=True).clamp_min(_NORM_FLOOR)
    q_norm = torch.linalg.vector_norm(q, dim=1, keepdim=True).clamp_min(_NORM_FLOOR)
    return e / e_norm, q / q_norm, q_norm / e_norm


def _dot(a: Rows, b: Rows) -> Rows:
    return (a * b).sum(dim=1, keepdim=True)


def _length_undefined(e: Rows, q: Rows) -> Bool[Tensor, " N"]:
    e_norm = torch.linalg.vector_norm(e, dim=1)
    q_norm = torch.linalg.vector_norm(q, dim=1)
    return (e_norm <= _NORM_FLOOR) | (q_norm <= _NORM_FLOOR) | (q_norm > _LARGEST_RESCALE * e_norm)


def rotation_undefined(e: Rows, q: Rows) -> Bool[Tensor, " N"]:
    """Rows with no unique rotation: opposite vectors, or a vector of (nearly) no length."""
    e_unit, q_unit, _ = _units(e, q)
    return ((e_unit + q_unit).square().sum(dim=1) < _DIRECTION_FLOOR) | _length_undefined(e, q)


def reflection_undefined(e: Rows, q: Rows) -> Bool[Tensor, " N"]:
    """Rows with no unique mirror: parallel vectors, or a vector of (nearly) no length."""
    e_unit, q_unit, _ = _units(e, q)
    return ((e_unit - q_unit).square().sum(dim=1) < _DIRECTION_FLOOR) | _length_undefined(e, q)


@register("straight_through", source="Bengio et al., Estimating or Propagating Gradients, 2013")
def straight_through(g: Rows, e: Rows, q: Rows) -> Rows:
    """∇ₑ = g."""
    return g


@register(
    "rotation", undefined=rotation_undefined, source="Fifty et al., Restructuring VQ with the Rotation Trick, 2024"
)
def rotation(g: Rows, e: Rows, q: Rows) -> Rows:
    """∇ₑ = λRᵀg with R = I − 2rrᵀ + 2q̂êᵀ, r = (ê+q̂)/‖ê+q̂‖: the Householder form of RRT."""
    e_unit, q_unit, rescale = _units(e, q)
    total = e_unit + q_unit
    # 1 + ê·q̂ = ‖ê+q̂‖²/2, which keeps its digits where 1 + c would cancel.
    one_plus_cos = (total.square().sum(dim=1, keepdim=True) / 2).clamp_min(_DIRECTION_FLOOR / 2)
    e_g, q_g = _dot(e_unit, g), _dot(q_unit, g)
    return rescale * (g - (e_g + q_g) / one_plus_cos * total + 2 * q_g * e_unit)


@register(
    "rodrigues",
    undefined=rotation_undefined,
    source="Rodrigues, 1840, in the form without angles; same map as rotation",
)
def rodrigues(g: Rows, e: Rows, q: Rows) -> Rows:
    """∇ₑ = λRᵀg with K = q̂êᵀ − êq̂ᵀ and R = I + K + K²/(1+c): the Rodrigues form of RRT."""
    e_unit, q_unit, rescale = _units(e, q)
    one_plus_cos = ((e_unit + q_unit).square().sum(dim=1, keepdim=True) / 2).clamp_min(_DIRECTION_FLOOR / 2)

    def skew(v: Rows) -> Rows:
        return q_unit * _dot(e_unit, v) - e_unit * _dot(q_unit, v)

    turned = skew(g)
    return rescale * (g - turned + skew(turned) / one_plus_cos)


@register("reflection", undefined=reflection_undefined, source="one Householder mirror, det −1, for contrast")
def reflection(g: Rows, e: Rows, q: Rows) -> Rows:
    """∇ₑ = λMg with M = I − 2uuᵀ, u = (ê−q̂)/‖ê−q̂‖: also maps ê to q̂, but mirrors the rest."""
    e_unit, q_unit, rescale = _units(e, q)
    apart = e_unit - q_unit
    squared = apart.square().sum(dim=1, keepdim=True).clamp_min(_DIRECTION_FLOOR)
    return rescale * (g - 2 * _dot(apart, g) / squared * apart)


def transport_gradient(g: Rows, e: Rows, q: Rows, kind: str = "rotation", noise: Rows | None = None) -> Rows:
    """The gradient that ``kind`` hands to e when g arrives at its output; (N, D) each, in float32 or better.

    Rows where the rule is undefined get g itself. noise: as in ``transport``. Raises InputError for an
    unknown kind.
    """
    chosen = get_transport(kind)
    dtype = torch.promote_types(g.dtype, torch.float32)
    wide = [t.detach().to(dtype) for t in (g, e, q)]
    if chosen.rule is None:
        with torch.enable_grad():
            leaf = wide[1].requires_grad_()
            (carried,) = torch.autograd.grad(transport(leaf, wide[2], kind, noise), leaf, wide[0])
    else:
        carried = torch.where(chosen.undefined(wide[1], wide[2])[:, None], wide[0], chosen.rule(*wide))
    return carried.to(g.dtype)


class _TransportFunction(torch.autograd.Function):
    """Forward: the code. Backward: the registered rule, R and λ held constant."""

    @staticmethod
    def forward(ctx: Any, e: Tensor, q: Tensor, kind: str) -> Tensor:
        ctx.save_for_backward(e, q)
        ctx.kind = kind
        return q.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        e, q = ctx.saved_tensors
        with torch.autocast(e.device.type, enabled=False):
            return transport_gradient(grads[0], e, q, ctx.kind).to(e.dtype), None, None


def transport(z_e: Rows, z_q: Rows, kind: str = "rotation", noise: Rows | None = None) -> Rows:
    """z_q (N, D), with ``kind``'s way back to z_e (N, D).

    A backward rule leaves the value z_q bit for bit and gives z_q no gradient. A registered value may
    differ from z_q and gives both a gradient; noise: standard normal, (N, D), the same each time unless
    given. Raises InputError for an unknown kind or for shapes that differ.
    """
    chosen = get_transport(kind)
    if z_e.shape != z_q.shape or z_e.dim() != 2:
        raise InputError(f"z_e {tuple(z_e.shape)} and z_q {tuple(z_q.shape)} must both be (N, D)")
    if chosen.value is None:
        return _TransportFunction.apply(z_e, z_q.detach(), kind)
    if noise is None:
        noise = torch.randn(z_e.shape, generator=torch.Generator().manual_seed(0)).to(z_e)
    return chosen.value(z_e, z_q, noise)
