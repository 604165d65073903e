"""Runs the Triton kernels in Triton's interpreter on a CPU and compares them with float64; prints a word for each."""

from __future__ import annotations

import os

os.environ["TRITON_INTERPRET"] = "1"

import torch
import torch.nn.functional as F

from vqlab.quantize import transport_gradient
from vqlab.quantize.backward_transports import rotation_undefined
from vqlab.quantize.triton_kernels import lookup_by_kernel, nearest_by_kernel, rotation_by_kernel

SIZES = [(1, 1, 1), (7, 3, 5), (100, 70, 20), (130, 64, 64), (65, 200, 130)]


def check(rows: int, codes: int, dim: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    x, g = (torch.randn(rows, dim, generator=generator) for _ in range(2))
    table = torch.randn(codes, dim, generator=generator)
    expected = torch.cdist(x.double(), table.double()).argmin(dim=1)
    bias = -table.square().sum(dim=1)
    assert torch.equal(nearest_by_kernel(x, table, bias, x, table), expected)
    narrow, narrow_table = x.bfloat16(), table.bfloat16()
    narrow_bias = -narrow_table.float().square().sum(dim=1)
    distances = torch.cdist(narrow.double(), narrow_table.double())
    chosen = distances.gather(1, nearest_by_kernel(narrow, narrow_table, narrow_bias, narrow, narrow_table)[:, None])[
        :, 0
    ]
    torch.testing.assert_close(chosen, distances.amin(dim=1))
    # Of equal codes the first; whole numbers, whose products have no rounding.
    whole, whole_table = x.round(), table.round().repeat(2, 1)
    whole_bias = -whole_table.square().sum(dim=1)
    first = torch.cdist(whole.double(), whole_table.double(), compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=1)
    assert torch.equal(nearest_by_kernel(whole, whole_table, whole_bias, whole, whole_table), first)
    # Two codes that differ by less than the rounding of scores.
    close = torch.cat([table[:1] + 1e-6 * torch.randn(1, dim, generator=generator), 5 + table[1:], table[:1]])
    nearest = (x.double()[:, None] - close.double()).square().sum(dim=2).argmin(dim=1)
    assert torch.equal(nearest_by_kernel(x, close, -close.square().sum(dim=1), x, close), nearest)
    unit, no_bias = F.normalize(table, dim=1), torch.zeros(codes)
    most_alike = (F.normalize(x.double(), dim=1) @ F.normalize(table.double(), dim=1).T).argmax(dim=1)
    assert torch.equal(nearest_by_kernel(x, unit, no_bias, x, table, cosine=True), most_alike)
    q, squares = lookup_by_kernel(x, table, expected)
    assert torch.equal(q, table[expected])
    torch.testing.assert_close(squares.double(), (x.double() - q.double()).square().sum(dim=1), rtol=1e-5, atol=1e-6)
    q[0] = -x[0]
    grad = rotation_by_kernel(g, x, q, rotation_undefined(x, q))
    exact = transport_gradient(g.double(), x.double(), q.double(), "rotation")
    torch.testing.assert_close(grad.double(), exact, rtol=1e-4, atol=1e-5)
    assert torch.equal(grad[0], g[0])
    print("equal")


if __name__ == "__main__":
    for size in SIZES:
        check(*size)
