"""Fused kernels of a training step of the codebook, in Triton: codes of a batch, its statistics, and the EMA step."""

from __future__ import annotations

from typing import NamedTuple, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vqlab.quantize.floors import DIRECTION_FLOOR, LAPLACE, MAX_RESCALE, NORM_FLOOR

# Elements of a program that holds all channels of its rows at once.
_ELEMENTS = 4096
# Codes that one program reads at a time where it reads those of the whole codebook.
_CODES = 4096
# Sums over the rows that count: their number, relative errors, lengths of e and q, undefined rows; rows not finite.
_TOTALS = 6
_STATISTICS = 8


class AssignedRows(NamedTuple):
    """What ``assign_by_kernel`` returns.

    Attributes:
        q: The codes, (N, D).
        squares: ‖e − q‖², (N,).
        undefined: Rows where the transport is undefined, (N,); False without a sign.
        rows: Whether a row counts, (N,).
        counts: Number of rows that count of each code, (K,).
        sums: Their sum, (K, D).
        totals: Sums over rows, (6,), for ``statistics_by_kernel``.
    """

    q: Float[Tensor, "N D"]
    squares: Float[Tensor, " N"]
    undefined: Bool[Tensor, " N"]
    rows: Bool[Tensor, " N"]
    counts: Float[Tensor, " K"]
    sums: Float[Tensor, "K D"]
    totals: Float[Tensor, " T"]


def whole_rows(tensor: Float[Tensor, "N D"]) -> tuple[int, int, tuple[int]]:
    """Choose the size of a program that holds whole rows.

    Args:
        tensor: The rows, (N, D).

    Returns:
        Rows and channels of a program, and the grid of programs.
    """
    channels = triton.next_power_of_2(tensor.shape[1])
    rows = max(1, _ELEMENTS // channels)
    return rows, channels, (triton.cdiv(len(tensor), rows),)


@triton.jit
@no_type_check
def _assign_kernel(
    e_ptr, codes_ptr, indices_ptr, unmasked_ptr, q_ptr, squares_ptr, undefined_ptr, rows_ptr, counts_ptr, sums_ptr,
    totals_ptr, num_rows, dim: tl.constexpr, masked: tl.constexpr, sign: tl.constexpr, norm_floor: tl.constexpr,
    direction_floor: tl.constexpr, max_rescale: tl.constexpr, rows: tl.constexpr, channels: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * rows + tl.arange(0, rows)
    channel = tl.arange(0, channels)
    inside = row < num_rows
    mask = inside[:, None] & (channel < dim)[None, :]
    place = row[:, None] * dim + channel[None, :]
    index = tl.load(indices_ptr + row, mask=inside, other=0)
    e = tl.load(e_ptr + place, mask=mask, other=0.0)
    q = tl.load(codes_ptr + index[:, None] * dim + channel[None, :], mask=mask, other=0.0)
    tl.store(q_ptr + place, q, mask=mask)
    squares = tl.sum((e - q) * (e - q), axis=1)
    tl.store(squares_ptr + row, squares, mask=inside)
    e_norm = tl.sqrt(tl.sum(e * e, axis=1))
    q_norm = tl.sqrt(tl.sum(q * q, axis=1))
    # NaN is not less.
    finite = e_norm < float("inf")
    given = inside
    if masked:
        given = inside & (tl.load(unmasked_ptr + row, mask=inside, other=0) != 0)
    counted = given & finite
    tl.store(rows_ptr + row, counted.to(tl.int8), mask=inside)
    undefined = row < 0
    if sign != 0:
        e_unit = e / tl.maximum(e_norm, norm_floor)[:, None]
        q_unit = q / tl.maximum(q_norm, norm_floor)[:, None]
        total = e_unit + sign * q_unit
        undefined = tl.sum(total * total, axis=1) < direction_floor
        undefined = undefined | (e_norm <= norm_floor) | (q_norm <= norm_floor) | (q_norm > max_rescale * e_norm)
    tl.store(undefined_ptr + row, undefined.to(tl.int8), mask=inside)
    tl.atomic_add(counts_ptr + index, 1.0, mask=counted)
    tl.atomic_add(sums_ptr + index[:, None] * dim + channel[None, :], e, mask=mask & counted[:, None])
    relative = squares / tl.maximum(e_norm * e_norm, 1e-12)
    tl.atomic_add(totals_ptr, tl.sum(counted.to(tl.float32), axis=0))
    tl.atomic_add(totals_ptr + 1, tl.sum(tl.where(counted, relative, 0.0), axis=0))
    tl.atomic_add(totals_ptr + 2, tl.sum(tl.where(counted, e_norm, 0.0), axis=0))
    tl.atomic_add(totals_ptr + 3, tl.sum(tl.where(counted, q_norm, 0.0), axis=0))
    tl.atomic_add(totals_ptr + 4, tl.sum((counted & undefined).to(tl.float32), axis=0))
    not_finite = given & (finite == 0)
    tl.atomic_add(totals_ptr + 5, tl.sum(not_finite.to(tl.float32), axis=0))


def assign_by_kernel(
    e: Float[Tensor, "N D"],
    codes: Float[Tensor, "K D"],
    indices: Int[Tensor, " N"],
    unmasked: Bool[Tensor, " N"] | None = None,
    sign: int = 0,
) -> AssignedRows:
    """Look up the codes of rows, and count and sum the rows of each code, in one pass.

    Args:
        e: Rows, (N, D), float32.
        codes: The codes, (K, D), float32.
        indices: Index of the code of each row, (N,).
        unmasked: False for rows that do not count, (N,). Default None: all rows that are finite count.
        sign: A row is undefined if ê + sign · q̂ is nearly 0 or λ = ‖q‖/‖e‖ is not usable; default 0: no row is.

    Returns:
        Codes, distances, masks, counts and sums.
    """
    size, dim, num_codes = len(e), e.shape[1], len(codes)
    # One allocation, which one launch fills with zeros.
    zeros = e.new_zeros(num_codes * (dim + 1) + _TOTALS)
    sums, counts, totals = zeros.split([num_codes * dim, num_codes, _TOTALS])
    q, squares = torch.empty_like(e, memory_format=torch.contiguous_format), e.new_empty(size)
    undefined, counted = (torch.empty(size, dtype=torch.bool, device=e.device) for _ in range(2))
    rows, channels, grid = whole_rows(e)
    _assign_kernel[grid](
        e.contiguous(), codes.contiguous(), indices, indices if unmasked is None else unmasked.view(torch.int8), q,
        squares, undefined.view(torch.int8), counted.view(torch.int8), counts, sums, totals, size, dim,
        unmasked is not None, sign, NORM_FLOOR, DIRECTION_FLOOR, MAX_RESCALE, rows, channels,
    )  # fmt: skip
    return AssignedRows(q, squares, undefined, counted, counts, sums.view(num_codes, dim), totals)


@triton.jit
@no_type_check
def _statistics_kernel(counts_ptr, totals_ptr, out_ptr, num_codes, codes: tl.constexpr):  # fmt: skip
    number = tl.load(totals_ptr)
    entropy = tl.zeros((codes,), tl.float32)
    unused = tl.zeros((codes,), tl.float32)
    for start in range(0, num_codes, codes):
        code = start + tl.arange(0, codes)
        count = tl.load(counts_ptr + code, mask=code < num_codes, other=0.0)
        share = count / tl.maximum(number, 1.0)
        entropy -= tl.where(share > 0, share * tl.log(tl.where(share > 0, share, 1.0)), 0.0)
        unused += ((code < num_codes) & (count == 0)).to(tl.float32)
    unused_codes = tl.sum(unused, axis=0)
    tl.store(out_ptr, tl.exp(tl.sum(entropy, axis=0)))
    tl.store(out_ptr + 1, 1 - unused_codes / num_codes)
    tl.store(out_ptr + 2, unused_codes)
    for place in range(1, 5):
        tl.store(out_ptr + 2 + place, tl.load(totals_ptr + place) / tl.maximum(number, 1.0))
    tl.store(out_ptr + 7, tl.load(totals_ptr + 5))


def statistics_by_kernel(counts: Float[Tensor, " K"], totals: Float[Tensor, " T"]) -> Float[Tensor, " S"]:
    """Compute the statistics of a batch.

    Args:
        counts: Number of rows of each code, (K,), float32.
        totals: Sums over rows, (6,), of ``assign_by_kernel``.

    Returns:
        Perplexity, utilisation, dead codes, the means of relative error, ‖e‖, ‖q‖ and undefined rows, and the number
        of rows that are not finite, (8,).
    """
    out = counts.new_empty(_STATISTICS)
    _statistics_kernel[(1,)](counts, totals, out, len(counts), min(_CODES, triton.next_power_of_2(len(counts))))
    return out


@triton.jit
@no_type_check
def _ema_counts_kernel(
    batch_ptr, counts_ptr, recent_ptr, info_ptr, num_codes, decay, gain, codes: tl.constexpr
):  # fmt: skip
    numbers = tl.zeros((codes,), tl.float32)
    for start in range(0, num_codes, codes):
        code = start + tl.arange(0, codes)
        numbers += tl.load(batch_ptr + code, mask=code < num_codes, other=0.0)
    number = tl.sum(numbers, axis=0)
    # Without a row nothing may decay.
    kept = tl.where(number > 0, decay, 1.0)
    totals = tl.zeros((codes,), tl.float32)
    for start in range(0, num_codes, codes):
        code = start + tl.arange(0, codes)
        mask = code < num_codes
        batch = tl.load(batch_ptr + code, mask=mask, other=0.0)
        count = tl.load(counts_ptr + code, mask=mask, other=0.0) * kept + batch * gain
        tl.store(counts_ptr + code, count, mask=mask)
        tl.store(recent_ptr + code, tl.load(recent_ptr + code, mask=mask, other=0.0) + batch, mask=mask)
        totals += tl.where(mask, count, 0.0)
    tl.store(info_ptr, number)
    tl.store(info_ptr + 1, tl.sum(totals, axis=0))


@triton.jit
@no_type_check
def _ema_codes_kernel(
    batch_ptr, sums_ptr, counts_ptr, codes_ptr, before_ptr, info_ptr, num_codes, decay, gain,
    dim: tl.constexpr, laplace: tl.constexpr, rows: tl.constexpr, channels: tl.constexpr,
):  # fmt: skip
    code = tl.program_id(0).to(tl.int64) * rows + tl.arange(0, rows)
    channel = tl.arange(0, channels)
    mask = (code < num_codes)[:, None] & (channel < dim)[None, :]
    place = code[:, None] * dim + channel[None, :]
    number = tl.load(info_ptr)
    total = tl.load(info_ptr + 1)
    kept = tl.where(number > 0, decay, 1.0)
    sums = tl.load(sums_ptr + place, mask=mask, other=0.0) * kept
    sums += tl.load(batch_ptr + place, mask=mask, other=0.0) * gain
    tl.store(sums_ptr + place, sums, mask=mask)
    before = tl.load(codes_ptr + place, mask=mask, other=0.0)
    tl.store(before_ptr + place, before, mask=mask)
    count = tl.load(counts_ptr + code, mask=code < num_codes, other=1.0)
    smoothed = (count + laplace) / (total + num_codes * laplace) * total
    # A code unused for very long keeps its value, because 0/0 would move it to the origin.
    moves = tl.where(number > 0, count, 0.0) > 100 * laplace
    tl.store(codes_ptr + place, tl.where(moves[:, None], sums / smoothed[:, None], before), mask=mask)


def ema_by_kernel(
    batch_counts: Float[Tensor, " K"],
    batch_sums: Float[Tensor, "K D"],
    counts: Float[Tensor, " K"],
    sums: Float[Tensor, "K D"],
    recent: Float[Tensor, " K"],
    codes: Float[Tensor, "K D"],
    decay: float,
) -> Float[Tensor, "K D"]:
    """Do one EMA step of a codebook, as ``Codebook`` describes it.

    Args:
        batch_counts: Number of vectors of each code in the batch, (K,), float32.
        batch_sums: Their sum, (K, D), float32.
        counts: EMA counts, (K,), float32, changed in place.
        sums: EMA sums, (K, D), likewise.
        recent: Number of vectors of each code since the last restarts, (K,), likewise.
        codes: The codes, (K, D), likewise.
        decay: γ of the EMA.

    Returns:
        The codes of before, (K, D).
    """
    before, info = torch.empty_like(codes), codes.new_empty(2)
    many = min(_CODES, triton.next_power_of_2(len(codes)))
    _ema_counts_kernel[(1,)](batch_counts, counts, recent, info, len(codes), decay, 1 - decay, many)
    rows, channels, grid = whole_rows(codes)
    _ema_codes_kernel[grid](
        batch_sums, sums, counts, codes, before, info, len(codes), decay, 1 - decay, codes.shape[1], LAPLACE, rows,
        channels,
    )  # fmt: skip
    for changed in (counts, sums, recent, codes):
        torch.autograd.graph.increment_version(changed)
    return before
