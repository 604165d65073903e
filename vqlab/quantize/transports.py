"""Gradient transports: the registry, and the functions that apply a registered transport.

A transport defines the gradient of the encoder vector e for a gradient g at the quantizer's output. There are two
kinds. A *backward rule* ``(g, e, q) -> grad_e`` replaces the derivative only; the forward value is the code q, bit
for bit. A *training-time value* ``(e, q, noise) -> z`` replaces the forward value in training mode and is
differentiated by autograd. Both are one function and one decorator: ``register_backward`` or ``register_forward``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vqlab.errors import InputError
from vqlab.quantize.kernels import kernels_for
from vqlab.quantize.row_layout import in_blocks, reads_are_free
from vqlab.quantize.signatures import with_signature
from vqlab.quantize.usage import squared_distances

Rows = Float[Tensor, "N D"]
Column = Float[Tensor, "N 1"]
BackwardRule = Callable[..., Rows]
Groups = Int[Tensor, " N"]
ForwardValue = Callable[[Rows, Rows, Rows], Rows]
RowMask = Callable[[Rows, Rows], Bool[Tensor, " N"]]


class RowLengths(NamedTuple):
    """Lengths that a quantizer knows of its rows.

    Attributes:
        e: ‖e‖, (N,).
        q: ‖q‖, (N,).
        squares: ‖e − q‖², (N,).
    """

    e: Float[Tensor, " N"]
    q: Float[Tensor, " N"]
    squares: Float[Tensor, " N"]


LengthsMask = Callable[[RowLengths], Bool[Tensor, " N"]]
LengthsRule = Callable[[Rows, Rows, Rows, RowLengths, Float[Tensor, ""] | None], Rows]


@dataclass(frozen=True)
class Transport:
    """An entry of the registry; exactly one of ``backward`` and ``forward`` is set.

    Attributes:
        name: The value of ``transport=`` and ``kind=`` that selects this entry.
        source: Authors, title and year of the publication; may be empty.
        undefined: Function ``(e, q) -> mask`` on rows (N, D); True, in a mask of (N,), where the backward rule is
            undefined. The straight-through gradient g is used there.
        backward: The backward rule ``(g, e, q) -> grad_e``, all (N, D), or None.
        forward: The training-time value ``(e, q, noise) -> z``, all (N, D), or None.
        by_code: Whether the backward rule also receives the groups of rows with the same code, (N,).
        suspect: Function of ``RowLengths``, True at least where ``undefined`` is and ``by_lengths`` is not exact, or
            None.
        kernel: Name of the function of ``triton_kernels`` that computes the backward rule, or None.
        by_lengths: Function ``(g, e, q, lengths, pull) -> grad_e + pull · (e − q)`` that computes the backward rule in
            fewer passes over memory, for large tensors on a CPU, or None.
    """

    name: str
    source: str
    undefined: RowMask
    backward: BackwardRule | None = None
    forward: ForwardValue | None = None
    by_code: bool = False
    suspect: LengthsMask | None = None
    kernel: str | None = None
    by_lengths: LengthsRule | None = None


_REGISTRY: dict[str, Transport] = {}
# Elements of tensors whose passes over memory are served by a CPU's cache.
_IN_CACHE = 1 << 18


def _defined_everywhere(e: Rows, q: Rows) -> Bool[Tensor, " N"]:
    # No len(): in an exported program the number of rows would become a constant. The same holds below.
    return torch.zeros(e.shape[0], dtype=torch.bool, device=e.device)


def register_backward(
    name: str, *, undefined: RowMask = _defined_everywhere, source: str = "", by_code: bool = False,
    suspect: LengthsMask | None = None, kernel: str | None = None, by_lengths: LengthsRule | None = None,
) -> Callable[[BackwardRule], BackwardRule]:  # fmt: skip
    """Register a backward rule as a gradient transport; use as a decorator.

    The rule receives g, e and q as float32 or float64 rows (N, D) that need no gradient, and returns the gradient of
    e, (N, D). Each row must depend on the same row of g, e and q only. An existing entry of the same name is
    replaced.

    Args:
        name: Name of the transport, then valid as ``transport=`` of ``VectorQuantizer`` and as
            ``quantizer.transport`` of a Config.
        undefined: Function ``(e, q) -> mask`` with True, in a mask of (N,), for rows where the rule is undefined;
            the gradient g is used there. Default: the rule is defined everywhere.
        source: Authors, title and year of the publication. Default: empty.
        by_code: True for a rule in which the rows of one code depend on each other. It receives a fourth argument,
            the groups, int64 (N,) in 0…N−1: rows with the same code have the same number, and a row that does not
            count has a number of its own. Default False.
        suspect: Function of the lengths of e, q and e − q, (N,) each, that is True at least where ``undefined`` is;
            only for speed: on a CPU, ``undefined`` then sees these rows alone. Default None: it sees every row.
        kernel: Name of a function of ``vqlab.quantize.triton_kernels`` that computes the rule on CUDA. Default None.
        by_lengths: Function ``(g, e, q, lengths, pull) -> grad_e + pull · (e − q)``, with a scalar or None for pull,
            that computes the rule with other rounding in fewer passes over memory, for large float32 tensors on a CPU
            without a graph; needs ``suspect``, whose rows are computed by the rule itself. Default None.

    Returns:
        A decorator that registers the function and returns it unchanged.

    Example:
        >>> @register_backward("half", source="an example")
        ... def half(g, e, q):
        ...     return g / 2
        >>> transport_gradient(torch.ones(1, 2), torch.ones(1, 2), torch.ones(1, 2), "half")
        tensor([[0.5000, 0.5000]])
        >>> del _REGISTRY["half"]
    """

    def add(rule: BackwardRule) -> BackwardRule:
        _REGISTRY[name] = Transport(
            name,
            source,
            undefined,
            backward=rule,
            by_code=by_code,
            suspect=suspect,
            kernel=kernel,
            by_lengths=by_lengths,
        )
        return rule

    return add


def register_forward(name: str, *, source: str = "") -> Callable[[ForwardValue], ForwardValue]:
    """Register a training-time value as a gradient transport; use as a decorator.

    The function receives e and q, (N, D), and standard normal noise, (N, D), and returns the value z, (N, D), that
    replaces q in training mode. Autograd differentiates it for both e and q. Each row must depend on the same row of
    e, q and noise only. In eval mode the value is q. An existing entry of the same name is replaced.

    Args:
        name: Name of the transport, then valid as ``transport=`` of ``VectorQuantizer`` and as
            ``quantizer.transport`` of a Config.
        source: Authors, title and year of the publication. Default: empty.

    Returns:
        A decorator that registers the function and returns it unchanged.

    Example:
        >>> @register_forward("midpoint", source="an example")
        ... def midpoint(e, q, noise):
        ...     return (e + q) / 2
        >>> transport(torch.zeros(1, 2), torch.ones(1, 2), "midpoint")
        tensor([[0.5000, 0.5000]])
        >>> del _REGISTRY["midpoint"]
    """

    def add(value: ForwardValue) -> ForwardValue:
        _REGISTRY[name] = Transport(name, source, _defined_everywhere, forward=value)
        return value

    return add


def transport_names() -> tuple[str, ...]:
    """List the names of all registered transports.

    Returns:
        Names in the order of registration.

    Example:
        >>> "rotation" in transport_names()
        True
    """
    return tuple(_REGISTRY)


def rowwise_transport_names() -> tuple[str, ...]:
    """List the transports whose gradient at a vector does not depend on the other vectors of its code.

    Returns:
        Names in the order of registration.

    Example:
        >>> "dynamic" in rowwise_transport_names()
        False
    """
    return tuple(name for name, entry in _REGISTRY.items() if not entry.by_code)


def get_transport(name: str) -> Transport:
    """Look up a registered transport.

    Args:
        name: Name of the transport.

    Returns:
        The entry of the registry.

    Raises:
        InputError: if no transport of this name is registered; the message lists the names.

    Example:
        >>> get_transport("rotation").source
        'Fifty et al., Restructuring Vector Quantization with the Rotation Trick, 2024'
    """
    if name not in _REGISTRY:
        raise InputError(f"transport={name!r}: must be one of {', '.join(_REGISTRY)}")
    return _REGISTRY[name]


def part_way(e: Rows, q: Rows, fraction: float) -> Rows:
    """Compute the point e + t (q − e), which a backward rule sees in place of the code q.

    Args:
        e: Encoder vectors, (N, D).
        q: Their codes, (N, D).
        fraction: t, in 0…1.

    Returns:
        The points, (N, D); q itself for t = 1.

    Example:
        >>> part_way(torch.zeros(1, 2), torch.ones(1, 2), 0.25)
        tensor([[0.2500, 0.2500]])
    """
    return q if fraction == 1 else torch.lerp(e, q, fraction)


def code_groups(
    indices: Int[Tensor, " N"], num_codes: int, rows: Bool[Tensor, " N"] | None = None
) -> Int[Tensor, " N"]:
    """Number the rows by their code: each row gets the place of the first row with its code.

    Args:
        indices: Index of the code of each row, (N,), in 0…K−1.
        num_codes: K, the number of codes.
        rows: True, in a mask of (N,), for rows that count; any other row gets its own place. Default None: all.

    Returns:
        Groups, (N,), int64, in 0…N−1.

    Example:
        >>> code_groups(torch.tensor([5, 2, 5, 2]), 8)
        tensor([0, 1, 0, 1])
    """
    places = torch.arange(indices.shape[0], device=indices.device)
    slots = indices if rows is None else torch.where(rows, indices, num_codes)
    first = places.new_full((num_codes + 1,), indices.shape[0]).scatter_reduce(0, slots, places, "amin")[slots]
    return first if rows is None else torch.where(rows, first, places)


def transport_gradient(
    g: Rows, e: Rows, q: Rows, kind: str = "rotation", noise: Rows | None = None, *, fraction: float = 1.0,
    groups: Groups | None = None,
) -> Rows:  # fmt: skip
    """Compute the gradient that a transport gives to e for a gradient g at its output.

    With ê = e/‖e‖, q̂ = q/‖q‖ and λ = ‖q‖/‖e‖:

    - ``"straight_through"``: ∇ₑ = g
    - ``"rotation"`` and ``"rodrigues"``: ∇ₑ = λRᵀg, R the rotation with R ê = q̂ in the plane of e and q
    - ``"rotation_unscaled"``: ∇ₑ = Rᵀg, and ``"rescale"``: ∇ₑ = λg, the two factors of the rotation alone
    - ``"rotation_inverse_distance"``: ∇ₑ = γRᵀg, γ = 1/(8‖q − e‖²)
    - ``"reflection"``: ∇ₑ = λMg, M = I − 2uuᵀ, u = (ê − q̂)/‖ê − q̂‖, which is symmetric and maps ê to q̂
    - ``"dynamic"``: ∇ₑ = wg, w = min ‖e′ − q‖² / ‖e − q‖² over the rows e′ with the code q, in 0…1
    - ``"nsvq"``, ``"diveq"``, ``"diveq_released"``, ``"diveq_detach"``: ∇ₑ = g − (d̂·g) (q − e)/‖q − e‖, d̂ the
      direction of the training-time error z − e

    R, M, λ and d̂ are constants of the derivative. Rows where a backward rule is undefined (for a rotation: e and q
    opposite, or a length of nearly 0) get g. The computation is in float32, or in float64 if g is.

    With a ``fraction`` t below 1, a backward rule sees e + t (q − e) in place of q: a rotation by part of the angle.
    With t = 0 every rule above is straight-through, with t = 1 it is the rule itself.

    Args:
        g: Gradients at the output, (N, D).
        e: Encoder vectors, (N, D).
        q: Their codes, (N, D).
        kind: Name of the transport; default ``"rotation"``. ``transport_names()`` lists the names.
        noise: Standard normal noise, (N, D), for ``"nsvq"``, ``"diveq"`` and other training-time values; ignored by
            backward rules. Default: drawn with a fixed seed, the same in each call.
        fraction: t, the part of the way from e to q that a backward rule sees, in 0…1. Default 1.0. Ignored by
            training-time values.
        groups: Groups of rows with the same code, (N,), as of ``code_groups``, for rules that are registered with
            ``by_code``. Default None: rows of q that are equal.

    Returns:
        The gradients of e, (N, D), of g's dtype, without a graph.

    Raises:
        InputError: if no transport of this name is registered, or the shapes are unequal for a training-time value.

    Example:
        A quarter turn takes e to q; its transpose turns the gradient back and scales it by λ = 2.

        >>> e, q = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
        >>> transport_gradient(torch.tensor([[0.0, 1.0]]), e, q, "rotation")
        tensor([[2., 0.]])
    """
    entry = get_transport(kind)
    if entry.backward is None:
        dtype = torch.promote_types(g.dtype, torch.float32)
        g_rows, e_rows, q_rows = (tensor.detach().to(dtype) for tensor in (g, e, q))
        with torch.enable_grad():
            leaf = e_rows.requires_grad_()
            (grad_e,) = torch.autograd.grad(transport(leaf, q_rows, kind, noise), leaf, g_rows)
        return grad_e.to(g.dtype)
    undefined = undefined_rows(e.detach(), q.detach(), kind, fraction)
    return _backward_rule(g.detach(), e.detach(), q.detach(), entry, fraction, undefined, groups)


def undefined_rows(
    e: Rows, q: Rows, kind: str, fraction: float = 1.0, lengths: RowLengths | None = None
) -> Bool[Tensor, " N"] | None:
    """Find the rows where a backward rule is undefined, so that g itself is used.

    Args:
        e: Encoder vectors, (N, D).
        q: Their codes, (N, D).
        kind: Name of the transport.
        fraction: The part of the way from e to q that the rule sees, in 0…1.
        lengths: Lengths of e, q and e − q, if they are known already. Default None.

    Returns:
        Mask, (N,), or None for a transport that is defined everywhere.

    Example:
        >>> undefined_rows(torch.ones(1, 2), -torch.ones(1, 2), "rotation")
        tensor([True])
    """
    entry = get_transport(kind)
    if entry.undefined is _defined_everywhere:
        return None
    dtype = torch.promote_types(e.dtype, torch.float32)

    def of_rows(e: Rows, q: Rows) -> Bool[Tensor, " n"]:
        e_rows, q_rows = e.to(dtype), q.to(dtype)
        return entry.undefined(e_rows, part_way(e_rows, q_rows, fraction))

    if lengths is None or entry.suspect is None or fraction != 1 or not reads_are_free(e):
        return in_blocks(of_rows, e, q)
    undefined = torch.zeros(len(e), dtype=torch.bool)
    rows = entry.suspect(lengths).nonzero()[:, 0]
    if len(rows):
        undefined[rows] = of_rows(e[rows], q[rows])
    return undefined


def _backward_rule(
    g: Rows, e: Rows, q: Rows, entry: Transport, fraction: float, undefined: Bool[Tensor, " N"] | None,
    groups: Groups | None, lengths: RowLengths | None = None, grad_error: Float[Tensor, ""] | None = None,
) -> Rows:  # fmt: skip
    """The gradient of a backward rule, differentiable with respect to g, in which it is linear.

    With ``grad_error`` the gradient of the mean of (e − q)² is added.
    """
    dtype = torch.promote_types(g.dtype, torch.float32)

    def rule(g: Rows, e: Rows, q: Rows, undefined: Bool[Tensor, " n"] | None = None) -> Rows:
        g_rows, e_rows, q_rows = (tensor.to(dtype) for tensor in (g, e, q))
        target = part_way(e_rows, q_rows, fraction)
        by_code: tuple[Tensor, ...] = ()
        if entry.by_code:
            by_code = (torch.unique(q_rows, dim=0, return_inverse=True)[1] if groups is None else groups,)
        grad_e = cast(BackwardRule, entry.backward)(g_rows, e_rows, target, *by_code)
        return (grad_e if undefined is None else torch.where(undefined[:, None], g_rows, grad_e)).to(g.dtype)

    plain = torch.is_grad_enabled() or fraction != 1 or g.dtype != torch.float32
    if entry.by_lengths and entry.suspect and not plain and reads_are_free(g) and g.numel() > _IN_CACHE:
        lengths = _row_lengths(e, q) if lengths is None else lengths
        pull = None if grad_error is None else 2 / e.numel() * grad_error
        grad_e = entry.by_lengths(g, e, q, lengths, pull)
        rows = entry.suspect(lengths).nonzero()[:, 0]
        if len(rows):
            again = rule(g[rows], e[rows], q[rows], None if undefined is None else undefined[rows])
            grad_e[rows] = again if pull is None else again + pull * (e[rows] - q[rows])
        return grad_e
    if undefined is not None and reads_are_free(undefined) and not undefined.any():
        undefined = None
    masks = () if undefined is None else (undefined,)
    if entry.kernel and masks and not plain and (kernels := kernels_for(e)):
        grad_e = getattr(kernels, entry.kernel)(g, e, q, undefined)
    else:
        grad_e = rule(g, e, q, *masks) if entry.by_code else in_blocks(rule, g, e, q, *masks)
    return grad_e if grad_error is None else grad_e + torch.ops.aten.mse_loss_backward(grad_error, e, q, 1)


def _row_lengths(e: Rows, q: Rows) -> RowLengths:
    e_norm, q_norm = (torch.linalg.vector_norm(rows, dim=1) for rows in (e, q))
    return RowLengths(e_norm, q_norm, in_blocks(squared_distances, e, q))


class _TransportFunction(torch.autograd.Function):
    """The code as the forward value, the registered rule as the backward, with R and λ constant.

    The backward is made of differentiable operations, so second derivatives are those of the written-out formula. With
    known lengths the mean of (e − q)² is a second output, so that one pass over memory gives the gradients of both.
    """

    generate_vmap_rule = True

    @staticmethod
    @with_signature
    def forward(
        e: Tensor, q: Tensor, kind: str, fraction: float, undefined: Tensor | None, groups: Tensor | None,
        *lengths: Tensor,
    ) -> Tensor | tuple[Tensor, Tensor]:  # fmt: skip
        return (q.clone(), RowLengths._make(lengths).squares.mean() / e.shape[1]) if lengths else q.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        e, q, ctx.kind, ctx.fraction, *others = inputs
        ctx.save_for_backward(e, q, *others)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, grad_error: Tensor | None = None) -> tuple[Tensor | None, ...]:
        e, q, undefined, groups, *others = ctx.saved_tensors
        e, q, entry, lengths = (
            e.detach(),
            q.detach(),
            get_transport(ctx.kind),
            RowLengths._make(others) if others else None,
        )
        with torch.autocast(e.device.type, enabled=False):
            if g is not None:
                grad_e = _backward_rule(g, e, q, entry, ctx.fraction, undefined, groups, lengths, grad_error)
            else:
                grad_e = torch.ops.aten.mse_loss_backward(grad_error, e, q, 1)
        return grad_e.to(e.dtype), *(None for _ in range(5 + len(others)))


def transport_and_error(
    z_e: Rows, z_q: Rows, kind: str, lengths: RowLengths, *, fraction: float = 1.0,
    undefined: Bool[Tensor, " N"] | None = None, groups: Groups | None = None,
) -> tuple[Rows, Float[Tensor, ""]]:  # fmt: skip
    """Return what ``transport`` returns for a backward rule, and the mean of (z_e − z_q)² over all elements.

    Args:
        z_e: As for ``transport``.
        z_q: As for ``transport``; it receives no gradient.
        kind: Name of a transport with a backward rule.
        lengths: Lengths of z_e, z_q and z_e − z_q.
        fraction: As for ``transport``.
        undefined: Result of ``undefined_rows``.
        groups: As for ``transport``.

    Returns:
        The output, (N, D), and the mean, a scalar; z_e receives the gradients of both.

    Example:
        >>> z_e, z_q = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
        >>> lengths = RowLengths(torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([5.0]))
        >>> transport_and_error(z_e, z_q, "rotation", lengths)
        (tensor([[0., 2.]]), tensor(2.5000))
    """
    return _TransportFunction.apply(z_e, z_q.detach(), kind, fraction, undefined, groups, *lengths)


def transport(
    z_e: Rows, z_q: Rows, kind: str = "rotation", noise: Rows | None = None, *, fraction: float = 1.0,
    undefined: Bool[Tensor, " N"] | None = None, groups: Groups | None = None,
) -> Rows:  # fmt: skip
    """Return z_q with a gradient path to z_e.

    For a backward rule (``"rotation"``, ``"rodrigues"``, ``"straight_through"``, ``"reflection"`` and rules of your
    own) the value is z_q bit for bit, z_e receives the gradient that ``transport_gradient`` documents, and z_q
    receives none. The default is the rotation trick (Fifty et al., Restructuring Vector Quantization with the
    Rotation Trick, 2024): with ê = z_e/‖z_e‖, q̂ = z_q/‖z_q‖, λ = ‖z_q‖/‖z_e‖ and r = (ê + q̂)/‖ê + q̂‖::

        z_q = λ R z_e,   R = I − 2rrᵀ + 2q̂êᵀ,   ∇z_e = λ Rᵀ g

    R and λ are constants of the derivative, and no D×D matrix is formed. The angle between the gradient and z_e
    equals the angle between g and z_q. Second derivatives (``create_graph=True``) are those of this formula, which is
    linear in g; ``torch.func.vjp``, ``grad`` and ``jacrev`` apply, and ``jacrev`` gives λR.

    For a training-time value (``"nsvq"``, ``"diveq"``) the value differs from z_q, and both z_e and z_q receive a
    gradient. ``VectorQuantizer`` uses it in training mode only.

    Args:
        z_e: Encoder vectors, (N, D), any floating-point dtype. For (B, D, H, W) see ``VectorQuantizer``.
        z_q: Their codes, (N, D).
        kind: Name of the transport; default ``"rotation"``. ``vqlab.quantize.transport_names()`` lists the names.
        noise: Standard normal noise, (N, D), for training-time values; ignored by backward rules. Default: drawn with
            a fixed seed, the same in each call, so pass fresh noise in your own training loop.
        fraction: The part of the way from z_e to z_q that a backward rule sees, in 0…1, as in
            ``transport_gradient``. Default 1.0. Ignored by training-time values.
        undefined: Result of ``undefined_rows``, if it is known already. Default None: computed if z_e needs a gradient.
        groups: Groups of rows with the same code, (N,), as in ``transport_gradient``. Default None: equal rows of z_q.

    Returns:
        The output, (N, D), of z_q's dtype.

    Raises:
        InputError: if no transport of this name is registered, or z_e and z_q are not both (N, D).

    Example:
        >>> z_e = torch.tensor([[1.0, 0.0]], requires_grad=True)
        >>> z = transport(z_e, torch.tensor([[0.0, 2.0]]))
        >>> z.backward(torch.tensor([[0.0, 1.0]]))
        >>> z.tolist(), z_e.grad.tolist()
        ([[0.0, 2.0]], [[2.0, 0.0]])
    """
    entry = get_transport(kind)
    if z_e.shape != z_q.shape or z_e.dim() != 2:
        raise InputError(f"z_e {tuple(z_e.shape)}, z_q {tuple(z_q.shape)}: must both be (N, D); flatten them to rows")
    if entry.forward is None:
        code = z_q.detach()
        if undefined is None and z_e.requires_grad and torch.is_grad_enabled():
            undefined = undefined_rows(z_e.detach(), code, kind, fraction)
        return _TransportFunction.apply(z_e, code, kind, fraction, undefined, groups)
    if noise is None:
        noise = torch.randn(z_e.shape, generator=torch.Generator().manual_seed(0)).to(z_e)
    return entry.forward(z_e, z_q, noise)
