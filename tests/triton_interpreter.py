"""Runs the Triton kernels in Triton's interpreter on a CPU and compares them with float64; prints a word for each."""

from __future__ import annotations

import os

os.environ["TRITON_INTERPRET"] = "1"

import copy

import torch
import torch.nn.functional as F

from vqlab import VectorQuantizer
from vqlab.quantize import transport_gradient, triton_kernels
from vqlab.quantize.assignment import assign, assign_by_kernels, see_rows
from vqlab.quantize.backward_transports import rotation_undefined
from vqlab.quantize.triton_kernels import ema_by_kernel, nearest_by_kernel, rotation_by_kernel

SIZES = [(1, 1, 1), (7, 3, 5), (100, 70, 20), (130, 64, 64), (65, 200, 130)]


def check(rows: int, codes: int, dim: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    x, g = (torch.randn(rows, dim, generator=generator) for _ in range(2))
    table = torch.randn(codes, dim, generator=generator)
    expected = torch.cdist(x.double(), table.double()).argmin(dim=1)
    assert torch.equal(nearest_by_kernel(x, table), expected)
    narrow, narrow_table = x.bfloat16(), table.bfloat16()
    distances = torch.cdist(narrow.double(), narrow_table.double())
    chosen = distances.gather(1, nearest_by_kernel(narrow, narrow_table)[:, None])[:, 0]
    torch.testing.assert_close(chosen, distances.amin(dim=1))
    # Of equal codes the first; whole numbers, whose products have no rounding.
    whole, whole_table = x.round(), table.round().repeat(2, 1)
    first = torch.cdist(whole.double(), whole_table.double(), compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=1)
    assert torch.equal(nearest_by_kernel(whole, whole_table), first)
    # Two codes that differ by less than the rounding of scores.
    close = torch.cat([table[:1] + 1e-6 * torch.randn(1, dim, generator=generator), 5 + table[1:], table[:1]])
    nearest = (x.double()[:, None] - close.double()).square().sum(dim=2).argmin(dim=1)
    assert torch.equal(nearest_by_kernel(x, close), nearest)
    most_alike = (F.normalize(x.double(), dim=1) @ F.normalize(table.double(), dim=1).T).argmax(dim=1)
    assert torch.equal(nearest_by_kernel(x, table, cosine=True), most_alike)
    q = table[expected]
    q[0] = -x[0]
    grad = rotation_by_kernel(g, x, q, rotation_undefined(x, q))
    exact = transport_gradient(g.double(), x.double(), q.double(), "rotation")
    torch.testing.assert_close(grad.double(), exact, rtol=1e-4, atol=1e-5)
    assert torch.equal(grad[0], g[0])
    print("equal")


def check_step(rows: int, codes: int, dim: int) -> None:
    """Codes, masks, counts, sums, statistics and EMA step beside those of the plain operations."""
    generator = torch.Generator().manual_seed(rows)
    e, table = torch.randn(rows, dim, generator=generator), torch.randn(codes, dim, generator=generator)
    table[codes // 2] = -e[0]
    e[-1, 0] = torch.nan
    indices = torch.randint(codes, (rows,), generator=generator)
    indices[0] = codes // 2
    for kind in ("rotation", "reflection", "straight_through", "rescale"):
        for unmasked in (None, torch.rand(rows, generator=generator) < 0.8):
            one = assign(e, table, indices, kind, 1.0, see_rows(e, unmasked), unmasked)
            other = assign_by_kernels(triton_kernels, e, table, indices, kind, 1.0, unmasked)
            assert torch.equal(one.rows, other.rows)
            for name in ("q", "squares", "counts", "sums", "stats"):
                torch.testing.assert_close(getattr(one, name), getattr(other, name), equal_nan=True)
            none = torch.zeros(rows, dtype=torch.bool)
            assert torch.equal(*(none if batch.undefined is None else batch.undefined for batch in (one, other)))
    book = VectorQuantizer(codes, dim, init="normal", decay=0.9).book
    book.counts[0] = 0
    changed, before = copy.deepcopy(book), book.codes.clone()
    for counts, sums in ((one.counts, one.sums), (torch.zeros_like(one.counts), torch.zeros_like(one.sums))):
        old = ema_by_kernel(counts, sums, changed.counts, changed.sums, changed.recent, changed.codes, 0.9)
        torch.testing.assert_close(old, before)
        book._ema_step(counts, sums)
        before = book.codes.clone()
        torch.testing.assert_close({**changed.state_dict()}, {**book.state_dict()})
    print("same")


if __name__ == "__main__":
    for size in SIZES:
        check(*size)
        check_step(*size)
