"""One forward + backward + update of the layer beside vector-quantize-pytorch on the same tensors.

Run with: pytest tests/benchmarks/bench_layer.py
"""

import copy

import pytest
import torch

from vqlab import VectorQuantizer

N, D = 8192, 64


def step(layer: torch.nn.Module, x: torch.Tensor) -> None:
    x.grad = None
    out = layer(x)
    z_q, loss = (out.z_q, out.loss) if hasattr(out, "z_q") else (out[0], out[2])
    (z_q.square().mean() + loss.sum()).backward()


def ours(codes: int) -> torch.nn.Module:
    return VectorQuantizer(codes, D, channel_dim=-1, decay=0.99)


def theirs(codes: int) -> torch.nn.Module:
    other = pytest.importorskip("vector_quantize_pytorch", reason="the bench extra is not installed")
    return other.VectorQuantize(
        dim=D, codebook_size=codes, rotation_trick=True, kmeans_init=True, decay=0.99, threshold_ema_dead_code=2
    )


@pytest.mark.parametrize("codes", [512, 1024, 4096])
@pytest.mark.parametrize("make", [ours, theirs])
def test_step(benchmark, make, codes: int) -> None:  # type: ignore[no-untyped-def]
    x = torch.randn(8, N // 8, D, generator=torch.Generator().manual_seed(0)).requires_grad_()
    layer = make(codes)
    step(layer, x)
    benchmark.group = f"N={N} D={D} K={codes}"
    benchmark.pedantic(step, args=(layer, x), rounds=15, warmup_rounds=3)


@pytest.mark.parametrize("codes", [1024, 4096])
def test_extra_memory_is_linear_in_n_and_k(codes: int) -> None:
    """Largest live allocation of one step stays far under N·K floats."""
    layer = ours(codes)
    x = torch.randn(N, D).requires_grad_()
    step(layer, x)
    with torch.profiler.profile(profile_memory=True) as profile:
        step(copy.deepcopy(layer), x)
    live = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    assert peak < 16 * 4 * (N * D + codes * D), f"{peak / 2**20:.1f} MiB"
