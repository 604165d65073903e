"""Fused kernels for CUDA, in Triton: nearest code, lookup with squared distance, and the gradient of the rotation.

Imported only where they are used. With TRITON_INTERPRET=1 in the environment they run on a CPU, for tests.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vqlab.quantize.floors import DIRECTION_FLOOR, NORM_FLOOR

# Rows and codes of a tile, and channels of one product; 16 is the least that a product takes.
_ROWS, _CODES, _CHANNELS = 64, 64, 64
# Elements of a program that holds all channels of its rows at once.
_ELEMENTS = 4096


@triton.jit
def _nearest_kernel(  # type: ignore[no-untyped-def]
    x_ptr, codes_ptr, bias_ptr, indices_ptr, num_rows, num_codes,
    dim: tl.constexpr, rows: tl.constexpr, codes: tl.constexpr, channels: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * rows + tl.arange(0, rows)
    best = tl.full((rows,), float("-inf"), tl.float32)
    index = tl.zeros((rows,), tl.int64)
    for first in range(0, num_codes, codes):
        code = first + tl.arange(0, codes)
        product = tl.zeros((rows, codes), tl.float32)
        for start in range(0, dim, channels):
            channel = start + tl.arange(0, channels)
            row_mask = (row < num_rows)[:, None] & (channel < dim)[None, :]
            code_mask = (code < num_codes)[None, :] & (channel < dim)[:, None]
            x = tl.load(x_ptr + row[:, None] * dim + channel[None, :], mask=row_mask, other=0.0)
            c = tl.load(codes_ptr + code[None, :] * dim + channel[:, None], mask=code_mask, other=0.0)
            # Full float32, no TF32: codes that differ little must stay apart.
            product = tl.dot(x.to(tl.float32), c.to(tl.float32), product, input_precision="ieee")
        bias = tl.load(bias_ptr + code, mask=code < num_codes, other=float("-inf"))
        scores = 2 * product + bias[None, :]
        largest = tl.max(scores, axis=1)
        place = tl.argmax(scores, axis=1)
        # Strictly larger, so that the lowest index wins.
        index = tl.where(largest > best, first + place, index)
        best = tl.maximum(largest, best)
    tl.store(indices_ptr + row, index, mask=row < num_rows)


@triton.jit
def _lookup_kernel(  # type: ignore[no-untyped-def]
    e_ptr, codes_ptr, indices_ptr, q_ptr, squares_ptr, num_rows,
    dim: tl.constexpr, rows: tl.constexpr, channels: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * rows + tl.arange(0, rows)
    channel = tl.arange(0, channels)
    mask = (row < num_rows)[:, None] & (channel < dim)[None, :]
    place = row[:, None] * dim + channel[None, :]
    index = tl.load(indices_ptr + row, mask=row < num_rows, other=0)
    e = tl.load(e_ptr + place, mask=mask, other=0.0)
    q = tl.load(codes_ptr + index[:, None] * dim + channel[None, :], mask=mask, other=0.0)
    tl.store(q_ptr + place, q, mask=mask)
    tl.store(squares_ptr + row, tl.sum((e - q) * (e - q), axis=1), mask=row < num_rows)


@triton.jit
def _rotation_kernel(  # type: ignore[no-untyped-def]
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
    x: Float[Tensor, "N D"], table: Float[Tensor, "K D"], bias: Float[Tensor, " K"]
) -> Int[Tensor, " N"]:
    """Find the code with the largest score 2x·c + bias; no N×K matrix is held.

    Args:
        x: Vectors, (N, D), float32 or bfloat16.
        table: The codes, (K, D), of the same dtype.
        bias: Bias of each code, (K,), float32.

    Returns:
        Indices, (N,), int64; the lowest of equal scores.
    """
    indices = torch.empty(len(x), dtype=torch.int64, device=x.device)
    channels = max(16, min(_CHANNELS, triton.next_power_of_2(x.shape[1])))
    _nearest_kernel[(triton.cdiv(len(x), _ROWS),)](
        x.contiguous(), table.contiguous(), bias.contiguous(), indices, len(x), len(table), x.shape[1], _ROWS, _CODES,
        channels,
    )  # fmt: skip
    return indices


def lookup_by_kernel(
    e: Float[Tensor, "N D"], codes: Float[Tensor, "K D"], indices: Int[Tensor, " N"]
) -> tuple[Float[Tensor, "N D"], Float[Tensor, " N"]]:
    """Look up codes and compute their squared distances from vectors, in one pass.

    Args:
        e: Vectors, (N, D), float32.
        codes: The codes, (K, D), float32.
        indices: Index of the code of each vector, (N,).

    Returns:
        The codes, (N, D), and ‖e − q‖², (N,).
    """
    q, squares = torch.empty_like(e), e.new_empty(len(e))
    rows, channels, grid = _whole_rows(e)
    _lookup_kernel[grid](
        e.contiguous(), codes.contiguous(), indices, q, squares, len(e), e.shape[1], rows, channels
    )  # fmt: skip
    return q, squares


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
    rows, channels, grid = _whole_rows(g)
    _rotation_kernel[grid](
        g.contiguous(), e.contiguous(), q.contiguous(), undefined.to(torch.int8), grad, len(g), g.shape[1],
        NORM_FLOOR, DIRECTION_FLOOR, rows, channels,
    )  # fmt: skip
    return grad


def _whole_rows(tensor: Float[Tensor, "N D"]) -> tuple[int, int, tuple[int]]:
    """Rows and channels of a program that holds whole rows, and the grid."""
    channels = triton.next_power_of_2(tensor.shape[1])
    rows = max(1, _ELEMENTS // channels)
    return rows, channels, (triton.cdiv(len(tensor), rows),)
