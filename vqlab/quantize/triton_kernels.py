"""Fused kernels for CUDA, in Triton: nearest code, codes with statistics, EMA step, and the gradient of the rotation.

Imported only where they are used. With TRITON_INTERPRET=1 in the environment they run on a CPU, for tests.
"""

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vqlab.quantize.floors import DIRECTION_FLOOR, FAR, NORM_FLOOR
from vqlab.quantize.triton_step import assign_by_kernel, ema_by_kernel, statistics_by_kernel, whole_rows

__all__ = ["assign_by_kernel", "ema_by_kernel", "nearest_by_kernel", "rotation_by_kernel", "statistics_by_kernel"]

# Rows and codes of a tile, and channels of one product; 16 is the least that a product takes.
_ROWS, _CODES, _CHANNELS = 32, 64, 64


@triton.jit
@no_type_check
def _nearest_kernel(
    x_ptr, codes_ptr, spread_ptr, mean_ptr, indices_ptr, num_rows, num_codes,
    dim: tl.constexpr, cosine: tl.constexpr, norm_floor: tl.constexpr, far: tl.constexpr,
    rows: tl.constexpr, codes: tl.constexpr, channels: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * rows + tl.arange(0, rows)
    best = tl.full((rows,), float("-inf"), tl.float32)
    second = tl.full((rows,), float("-inf"), tl.float32)
    first_index = tl.zeros((rows,), tl.int64)
    second_index = tl.zeros((rows,), tl.int64)
    spreads = tl.zeros((channels,), tl.float32)
    lengths = tl.zeros((channels,), tl.float32)
    if not cosine:
        for first_channel in range(0, dim, channels):
            channel = first_channel + tl.arange(0, channels)
            mean = tl.load(mean_ptr + channel, mask=channel < dim, other=0.0)
            spreads += tl.load(spread_ptr + channel, mask=channel < dim, other=0.0)
            lengths += mean * mean
    # Near the origin nothing is subtracted, so that whole numbers stay whole. NaN is not more.
    is_far = tl.sum(lengths, axis=0) > far * tl.sum(spreads, axis=0)
    for start in range(0, num_codes, codes):
        code = start + tl.arange(0, codes)
        product = tl.zeros((rows, codes), tl.float32)
        squares = tl.zeros((codes,), tl.float32)
        for first_channel in range(0, dim, channels):
            channel = first_channel + tl.arange(0, channels)
            row_mask = (row < num_rows)[:, None] & (channel < dim)[None, :]
            code_mask = (code < num_codes)[None, :] & (channel < dim)[:, None]
            x = tl.load(x_ptr + row[:, None] * dim + channel[None, :], mask=row_mask, other=0.0).to(tl.float32)
            c = tl.load(codes_ptr + code[None, :] * dim + channel[:, None], mask=code_mask, other=0.0).to(tl.float32)
            if not cosine:
                centre = tl.where(is_far, tl.load(mean_ptr + channel, mask=channel < dim, other=0.0), 0.0)
                x -= tl.where(row_mask, centre[None, :], 0.0)
                c -= tl.where(code_mask, centre[:, None], 0.0)
            squares += tl.sum(c * c, axis=0)
            # Three products of parts of the operands, which keep 21 bits or more; one of TF32 keeps 10.
            product = tl.dot(x, c, product, input_precision="tf32x3")
        if cosine:
            scores = product / tl.maximum(tl.sqrt(squares), norm_floor)[None, :]
        else:
            scores = 2 * product - squares[None, :]
        scores = tl.where((code < num_codes)[None, :], scores, float("-inf"))
        place = tl.argmax(scores, axis=1)
        largest = tl.max(scores, axis=1)
        scores = tl.where(tl.arange(0, codes)[None, :] == place[:, None], float("-inf"), scores)
        next_place = tl.argmax(scores, axis=1)
        next_largest = tl.max(scores, axis=1)
        # Strictly larger, so that the lowest index wins.
        improves = largest > best
        follower = tl.where(improves, best, largest)
        follower_index = tl.where(improves, first_index, start + place)
        first_index = tl.where(improves, start + place, first_index)
        best = tl.maximum(largest, best)
        is_next = improves & (next_largest > follower)
        follower = tl.where(is_next, next_largest, follower)
        follower_index = tl.where(is_next, start + next_place, follower_index)
        replaces = (follower > second) | (improves & (follower == second))
        second_index = tl.where(replaces, follower_index, second_index)
        second = tl.maximum(follower, second)
    # Scores are rounded, so the two best codes are compared again in float64.
    first_value = tl.zeros((rows,), tl.float64)
    second_value = tl.zeros((rows,), tl.float64)
    first_square = tl.zeros((rows,), tl.float64)
    second_square = tl.zeros((rows,), tl.float64)
    for first_channel in range(0, dim, channels):
        channel = first_channel + tl.arange(0, channels)
        mask = (row < num_rows)[:, None] & (channel < dim)[None, :]
        x = tl.load(x_ptr + row[:, None] * dim + channel[None, :], mask=mask, other=0.0).to(tl.float64)
        c = tl.load(codes_ptr + first_index[:, None] * dim + channel[None, :], mask=mask, other=0.0).to(tl.float64)
        d = tl.load(codes_ptr + second_index[:, None] * dim + channel[None, :], mask=mask, other=0.0).to(tl.float64)
        if cosine:
            first_value += tl.sum(x * c, axis=1)
            second_value += tl.sum(x * d, axis=1)
            first_square += tl.sum(c * c, axis=1)
            second_square += tl.sum(d * d, axis=1)
        else:
            first_value -= tl.sum((x - c) * (x - c), axis=1)
            second_value -= tl.sum((x - d) * (x - d), axis=1)
    if cosine:
        first_value /= tl.sqrt(tl.maximum(first_square, 1e-300))
        second_value /= tl.sqrt(tl.maximum(second_square, 1e-300))
    equal = first_value == second_value
    swap = (second > float("-inf")) & ((second_value > first_value) | (equal & (second_index < first_index)))
    tl.store(indices_ptr + row, tl.where(swap, second_index, first_index), mask=row < num_rows)


@triton.jit
@no_type_check
def _rotation_kernel(
    g_ptr, e_ptr, q_ptr, undefined_ptr, grad_ptr, num_rows,
    dim: tl.constexpr, norm_floor: tl.constexpr, direction_floor: tl.constexpr,
    rows: tl.constexpr, channels: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * rows + tl.arange(0, rows)
    channel = tl.arange(0, channels)
    mask = (row < num_rows)[:, None] & (channel < dim)[None, :]
    place = row[:, None] * dim + channel[None, :]
    g = tl.load(g_ptr + place, mask=mask, other=0.0)
    e = tl.load(e_ptr + place, mask=mask, other=0.0)
    q = tl.load(q_ptr + place, mask=mask, other=0.0)
    undefined = tl.load(undefined_ptr + row, mask=row < num_rows, other=0)
    e_norm = tl.maximum(tl.sqrt(tl.sum(e * e, axis=1)), norm_floor)[:, None]
    q_norm = tl.maximum(tl.sqrt(tl.sum(q * q, axis=1)), norm_floor)[:, None]
    e_unit, q_unit = e / e_norm, q / q_norm
    total = e_unit + q_unit
    one_plus_cos = tl.maximum(tl.sum(total * total, axis=1) / 2, direction_floor / 2)[:, None]
    e_g = tl.sum(e_unit * g, axis=1)[:, None]
    q_g = tl.sum(q_unit * g, axis=1)[:, None]
    grad = q_norm / e_norm * (g - (e_g + q_g) / one_plus_cos * total + 2 * q_g * e_unit)
    tl.store(grad_ptr + place, tl.where((undefined != 0)[:, None], g, grad), mask=mask)


def nearest_by_kernel(
    x: Float[Tensor, "N D"], codes: Float[Tensor, "K D"], *, cosine: bool = False
) -> Int[Tensor, " N"]:
    """Find the nearest code, by products in float32; of the two best, the nearer one in float64.

    No N×K matrix is held. Where the codes are far from the origin, the products are of vectors from their mean.

    Args:
        x: Vectors, (N, D), float32 or bfloat16.
        codes: The codes, (K, D), of the same dtype.
        cosine: Compare cosines, not distances. Default False.

    Returns:
        Indices, (N,), int64; the lowest of equal scores.
    """
    indices = torch.empty(len(x), dtype=torch.int64, device=x.device)
    channels = max(16, min(_CHANNELS, triton.next_power_of_2(x.shape[1])))
    spread, mean = torch.var_mean(codes.float(), dim=0, correction=0)
    _nearest_kernel[(triton.cdiv(len(x), _ROWS),)](
        x.contiguous(), codes.contiguous(), spread, mean, indices, len(x), len(codes), x.shape[1], cosine, NORM_FLOOR,
        FAR, _ROWS, _CODES, channels,
    )  # fmt: skip
    return indices


def rotation_by_kernel(
    g: Float[Tensor, "N D"], e: Float[Tensor, "N D"], q: Float[Tensor, "N D"], undefined: Bool[Tensor, " N"]
) -> Float[Tensor, "N D"]:
    """Compute the gradient of the transport ``"rotation"``, λRᵀg, in one pass.

    Args:
        g: Gradients at the codes, (N, D), float32.
        e: Encoder vectors, (N, D), float32.
        q: Their codes, (N, D), float32.
        undefined: True, in a mask of (N,), where the gradient is g.

    Returns:
        Gradients of e, (N, D).
    """
    grad = torch.empty_like(g, memory_format=torch.contiguous_format)
    rows, channels, grid = whole_rows(g)
    _rotation_kernel[grid](
        g.contiguous(), e.contiguous(), q.contiguous(), undefined.view(torch.int8), grad, len(g), g.shape[1],
        NORM_FLOOR, DIRECTION_FLOOR, rows, channels,
    )  # fmt: skip
    return grad
