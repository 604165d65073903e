"""The layer on CUDA: the fused kernels, the results of the CPU, no wait for the device, memory and time."""

from __future__ import annotations

import copy
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vqlab import VectorQuantizer
from vqlab.quantize import search, transport_gradient
from vqlab.quantize.backward_transports import rotation_undefined
from vqlab.quantize.kernels import kernels_for

SIZES = [(1, 1, 1), (100, 70, 20), (8192, 1024, 64), (8192, 1024, 256), (1000, 65_536, 8)]


def vectors(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).cuda()


def test_the_kernels_are_used() -> None:
    assert kernels_for(vectors(4, 4)) is not None


@pytest.mark.parametrize(("rows", "codes", "dim"), SIZES)
@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_kernels_give_what_float64_gives(rows: int, codes: int, dim: int, precision: str) -> None:
    torch.set_float32_matmul_precision(precision)
    try:
        e, table, g = vectors(rows, dim), vectors(codes, dim, seed=1), vectors(rows, dim, seed=2)
        indices = search.nearest_codes(e, table)
        distances = torch.cdist(e.double(), table.double())
        torch.testing.assert_close(
            distances.gather(1, indices[:, None])[:, 0], distances.amin(dim=1), rtol=1e-5, atol=0
        )
        q, squares = kernels_for(e).assign_by_kernel(e, table, indices)[:2]
        assert torch.equal(q, table[indices])
        torch.testing.assert_close(squares, (e - q).square().sum(dim=1), rtol=1e-4, atol=1e-5)
        grad = kernels_for(e).rotation_by_kernel(g, e, q, rotation_undefined(e, q))
        exact = transport_gradient(g.double(), e.double(), q.double(), "rotation")
        torch.testing.assert_close(grad.double(), exact, rtol=1e-3, atol=1e-4)
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(("offset", "spread"), [(0, 1e-4), (100, 1e-3), (0, 1e15), (0, 1e-15)])
def test_the_search_is_exact_for_codes_that_differ_little_or_are_far_away(offset: float, spread: float) -> None:
    x, codes = (offset + spread * vectors(500, 16, seed=seed) for seed in (3, 4))
    codes = torch.cat([codes, codes + 1e-3 * spread * vectors(500, 16, seed=5)])
    wide, wide_codes = x.double(), codes.double()
    squares = (wide[:, None] - wide_codes).square().sum(dim=2)
    found = squares.gather(1, search.nearest_codes(x, codes)[:, None])[:, 0]
    # Three or more codes within rounding of float32 may be mistaken for each other.
    torch.testing.assert_close(found, squares.amin(dim=1), rtol=1e-6, atol=0)


def test_rotation_kernel_is_no_mirror() -> None:
    e, q, g = (vectors(50, 24, seed=seed) for seed in range(3))
    none = torch.zeros(50, dtype=torch.bool, device="cuda")
    grad = kernels_for(e).rotation_by_kernel(g, e, q, none).double()
    torch.testing.assert_close(
        grad, transport_gradient(g.double(), e.double(), q.double(), "rotation"), rtol=1e-4, atol=1e-4
    )
    mirror = transport_gradient(g.double(), e.double(), q.double(), "reflection")
    assert not torch.allclose(grad, mirror, rtol=1e-2, atol=1e-2)


def test_inductor_compiles_the_layer_and_data_parallel_gathers_its_output() -> None:
    # In a process of its own: compilers cannot follow the tests' checks of annotations.
    command = [sys.executable, "-W", "ignore", str(Path(__file__).parent.parent / "inductor_programs.py"), "cuda"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.split() == ["compiled"] * 3 + ["parallel"], done.stderr[-3000:]


def test_scaled_float16_training_lowers_the_loss() -> None:
    torch.manual_seed(0)
    encoder, layer = torch.nn.Conv2d(3, 16, 1).cuda(), VectorQuantizer(64, 16).cuda()
    optimizer, scaler = torch.optim.Adam(encoder.parameters(), 1e-2), torch.amp.GradScaler("cuda")
    images, losses = vectors(16, 3, 8, 8), []
    for _ in range(30):
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.float16):
            out = layer(encoder(images))
            loss = (out.z_q[:, :3] - images).float().square().mean() + out.loss
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("arguments", [{}, {"update": "gradient"}, {"code_dim": 8}, {"distance": "cosine"}])
def test_steps_are_those_of_the_cpu(arguments: dict[str, object]) -> None:
    torch.manual_seed(0)
    # Without a first fill and restarts, whose random numbers are those of the device.
    on_cpu = VectorQuantizer(64, 16, init="normal", restart_every=0, **arguments)
    on_cuda = copy.deepcopy(on_cpu).cuda()
    for seed in range(3):
        z_e = vectors(4, 16, 8, 8, seed=seed)
        one, other = z_e.cpu().requires_grad_(), z_e.clone().requires_grad_()
        expected, out = on_cpu(one), on_cuda(other)
        (expected.z_q.pow(3).mean() + expected.loss).backward()
        (out.z_q.pow(3).mean() + out.loss).backward()
        assert (out.indices.cpu() == expected.indices).float().mean() > 0.999
        torch.testing.assert_close(other.grad.cpu(), one.grad, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(on_cuda.codebook.detach().cpu(), on_cpu.codebook.detach(), rtol=1e-3, atol=1e-4)


@pytest.fixture
def no_wait() -> Iterator[None]:
    with warnings.catch_warnings(action="ignore"):
        # It warns that it does not see every operation that waits.
        torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def test_steady_steps_do_not_wait_for_the_device(request: pytest.FixtureRequest) -> None:
    layer = VectorQuantizer(64, 16, restart_every=2).cuda()
    batches = [vectors(4, 16, 8, 8, seed=seed).requires_grad_() for seed in range(6)]
    for z_e in batches[:2]:
        (layer(z_e).z_q.sum()).backward()
    request.getfixturevalue("no_wait")
    for z_e in batches[2:]:
        out = layer(z_e)
        (out.z_q.sum() + out.loss).backward()


def test_a_steady_step_takes_few_launches() -> None:
    layer, z_e = VectorQuantizer(64, 16, restart_every=0).cuda(), vectors(4, 16, 8, 8).requires_grad_()

    def step() -> None:
        out = layer(z_e)
        (out.z_q.sum() + out.loss).backward()

    for _ in range(3):
        step()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA], acc_events=True) as profile:
        step()
        torch.cuda.synchronize()
    on_device = [event for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    assert 5 < len(on_device) <= 40, sorted(event.name for event in on_device)


def test_memory_is_linear_in_the_number_of_vectors_and_codes() -> None:
    rows, codes, dim = 8192, 1 << 18, 16
    layer, z_e = VectorQuantizer(codes, dim, channel_dim=-1, init="normal").cuda(), vectors(rows, dim).requires_grad_()
    layer(z_e)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    out = layer(z_e)
    (out.z_q.sum() + out.loss).backward()
    assert torch.cuda.max_memory_allocated() - before < 4 * 20 * (rows + codes) * dim


def test_the_benchmark_runs(capsys: pytest.CaptureFixture[str]) -> None:
    # In a process of its own: the tests' checks of annotations take longer than a step.
    command = [sys.executable, "-W", "ignore", "-m", "vqlab", "bench", "--device", "cuda", "--rounds", "20"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    with capsys.disabled():
        print(f"\n{done.stdout}")
    assert done.stdout.count("| 8192 |") == 6
