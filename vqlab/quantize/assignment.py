"""What a quantizer knows of a batch once each vector has its code: codes, lengths, counts, sums and statistics."""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vqlab.quantize.backward_transports import reflection_undefined, rotation_undefined
from vqlab.quantize.search import counts_and_sums, look_up
from vqlab.quantize.transports import RowLengths, RowMask, Rows, get_transport, undefined_rows
from vqlab.quantize.usage import perplexity

# Statistics in the order in which the kernel returns them.
_STATISTICS = (
    "perplexity", "utilisation", "dead_codes", "relative_error", "z_e_norm", "code_norm", "fallback_fraction",
    "non_finite",
)  # fmt: skip
# Sign of q̂ in the sum whose length says where a rule is undefined.
_SIGNS: dict[RowMask, int] = {rotation_undefined: 1, reflection_undefined: -1}


class SeenRows(NamedTuple):
    """Which encoder vectors of a batch count.

    Attributes:
        lengths: ‖e‖, (N,).
        finite: Whether a vector is finite, (N,).
        rows: Whether a vector counts: it is finite and not masked, (N,).
    """

    lengths: Float[Tensor, " N"]
    finite: Bool[Tensor, " N"]
    rows: Bool[Tensor, " N"]


def see_rows(e: Rows, unmasked: Bool[Tensor, " N"] | None = None) -> SeenRows:
    """Find the encoder vectors that count.

    Args:
        e: Encoder vectors, (N, D).
        unmasked: False for padding, (N,). Default None: no vector is padding.

    Returns:
        Lengths, and the masks.

    Example:
        >>> see_rows(torch.tensor([[3.0, 4.0], [0.0, torch.nan]])).rows
        tensor([ True, False])
    """
    lengths = torch.linalg.vector_norm(e, dim=1)
    # A length is finite where its square is: it is computed as the root of the sum of squares. NaN is not less.
    finite = lengths < torch.inf
    return SeenRows(lengths, finite, finite if unmasked is None else finite & unmasked)


class Assignment(NamedTuple):
    """A batch of encoder vectors with their codes.

    Attributes:
        q: The codes, (N, D), with a path for their gradient if they need one.
        squares: ‖e − q‖², (N,), without a graph.
        undefined: Rows where the transport is undefined, (N,), or None.
        lengths: Lengths of e, q and e − q, or None if a kernel has computed them.
        rows: Whether a vector counts, (N,).
        counts: Number of vectors that count of each code, (K,).
        sums: Their sum, (K, D).
        stats: Statistics of the batch, scalars by name.
    """

    q: Rows
    squares: Float[Tensor, " N"]
    undefined: Bool[Tensor, " N"] | None
    lengths: RowLengths | None
    rows: Bool[Tensor, " N"]
    counts: Float[Tensor, " K"]
    sums: Float[Tensor, "K D"]
    stats: dict[str, Tensor]


def assign(
    e: Rows, codes: Float[Tensor, "K D"], indices: Int[Tensor, " N"], kind: str, fraction: float, seen: SeenRows,
    unmasked: Bool[Tensor, " N"] | None = None,
) -> Assignment:  # fmt: skip
    """Look up the codes of encoder vectors, and compute what the update and the statistics need of them.

    Args:
        e: Encoder vectors, (N, D).
        codes: The codes, (K, D).
        indices: Index of the code of each vector, (N,).
        kind: Name of the transport.
        fraction: The part of the way from e to q that the transport sees, in 0…1.
        seen: Result of ``see_rows`` for e and ``unmasked``.
        unmasked: False for padding, (N,). Default None.

    Returns:
        The batch with its codes.
    """
    rows = seen.rows
    q, squares = look_up(e, codes, indices)
    code_lengths = torch.linalg.vector_norm(codes.detach(), dim=1)
    known = RowLengths(seen.lengths, code_lengths.index_select(0, indices), squares)
    undefined = undefined_rows(e.detach(), q.detach(), kind, fraction, known)
    counts, sums = counts_and_sums(e.detach(), indices, len(codes), rows)
    unused = (counts == 0).sum()
    stats = {
        "perplexity": perplexity(counts),
        "utilisation": 1 - unused / len(counts),
        "dead_codes": unused.float(),
        **row_statistics(known, undefined, seen, unmasked),
    }
    return Assignment(q, squares, undefined, known, rows, counts, sums, stats)


@torch.no_grad()
def assign_by_kernels(
    kernels: ModuleType, e: Rows, codes: Float[Tensor, "K D"], indices: Int[Tensor, " N"], kind: str, fraction: float,
    unmasked: Bool[Tensor, " N"] | None = None,
) -> Assignment:  # fmt: skip
    """Compute what ``assign`` computes with two fused kernels.

    Args:
        kernels: The module ``vqlab.quantize.triton_kernels``, from ``kernels_for``.
        e: Encoder vectors, (N, D), float32.
        codes: The codes, (K, D), float32, that need no gradient.
        indices: As for ``assign``.
        kind: As for ``assign``.
        fraction: As for ``assign``.
        unmasked: As for ``assign``.

    Returns:
        The batch with its codes.
    """
    sign = _SIGNS.get(get_transport(kind).undefined, 0) if fraction == 1 else 0
    q, squares, undefined, rows, counts, sums, totals = kernels.assign_by_kernel(e, codes, indices, unmasked, sign)
    stats = dict(zip(_STATISTICS, kernels.statistics_by_kernel(counts, totals).unbind(), strict=True))
    if not sign:
        undefined = undefined_rows(e, q, kind, fraction)
        if undefined is not None:
            stats["fallback_fraction"] = (undefined & rows).sum() / rows.sum().clamp_min(1)
    return Assignment(q, squares, undefined, None, rows, counts, sums, stats)


@torch.no_grad()
def row_statistics(
    known: RowLengths, undefined: Bool[Tensor, " N"] | None, seen: SeenRows, unmasked: Bool[Tensor, " N"] | None = None
) -> dict[str, Tensor]:
    """Compute the statistics of a batch that are means over vectors, and the number of vectors that are not finite.

    Args:
        known: Lengths of e, q and e − q.
        undefined: Rows where the transport is undefined, (N,), or None.
        seen: Which vectors count.
        unmasked: False for padding, (N,). Default None.

    Returns:
        Scalars by name, as ``QuantizerOutput`` defines them.
    """
    fallbacks = torch.zeros_like(known.e) if undefined is None else undefined.to(known.e.dtype)
    relative_errors = known.squares / known.e.square().clamp_min(1e-12)
    values = torch.where(seen.rows, torch.stack([relative_errors, known.e, known.q, fallbacks]), 0)
    relative_error, z_e_norm, code_norm, fallback_fraction = values.sum(dim=1) / seen.rows.sum().clamp_min(1)
    non_finite = ~seen.finite if unmasked is None else ~seen.finite & unmasked
    return {
        "relative_error": relative_error,
        "z_e_norm": z_e_norm,
        "code_norm": code_norm,
        "fallback_fraction": fallback_fraction,
        "non_finite": non_finite.sum().float(),
    }
