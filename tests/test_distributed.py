"""The layer on two ranks (gloo), alone and inside DDP and FSDP, compared with one process on the joined batch."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from command_processes import run_ranks
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from vqlab import VectorQuantizer
from vqlab.models.joined_batch_norm import JoinedBatchNorm2d

RANKS, STEPS, TOKENS, DIM = 2, 45, 60, 4


def _tokens(step: int) -> list[torch.Tensor]:
    """One part for each rank, of unequal length. The mean moves with the step, so that codes become dead."""
    generator = torch.Generator().manual_seed(step)
    joined = torch.randn(TOKENS, DIM, generator=generator) + step / 10
    return [joined[:20], joined[20:]]


def _layer() -> VectorQuantizer:
    return VectorQuantizer(16, DIM, channel_dim=-1, seed=3, restart_every=5, decay=0.9)


def _run_rank(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS)
    torch.set_num_threads(1)
    layer = _layer()
    for step in range(STEPS):
        layer(_tokens(step)[rank])
    torch.save(layer.state_dict(), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_gloo_available(), reason="this torch has no gloo")
def test_two_ranks_have_the_codebook_of_one_process_on_the_joined_batch(tmp_path: Path) -> None:
    run_ranks(_run_rank, str(tmp_path))
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]
    single = _layer()
    restarts = 0
    for step in range(STEPS):
        restarts += int(single(torch.cat(_tokens(step))).stats["restarts"])
    assert restarts > 0
    for name, value in single.state_dict().items():
        assert torch.equal(ranks[0][name], ranks[1][name]), name
        torch.testing.assert_close(ranks[0][name], value, msg=name)


def _normalised(parts: list[torch.Tensor], layer: torch.nn.BatchNorm2d) -> list[torch.Tensor]:
    """Outputs and gradients of a loss that is the mean over the images of all parts, of which each rank has one."""
    layer.load_state_dict({**layer.state_dict(), "weight": torch.tensor([0.5, 2, 1]), "bias": torch.arange(3.0)})
    leaves = [part.clone().requires_grad_() for part in parts]
    outputs = [layer(leaf) for leaf in leaves]
    sum((output.tanh().sum() for output in outputs), torch.zeros(())).div(4).backward()
    gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
    return [torch.cat(outputs).detach(), torch.cat(gradients), layer.running_mean, layer.running_var]


def _normalise_as_rank(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS)
    results = _normalised([_feature_maps().split([1, 3])[rank]], JoinedBatchNorm2d(3))
    torch.save(results, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def _feature_maps() -> torch.Tensor:
    return 100 + torch.randn(4, 3, 5, 2, generator=torch.Generator().manual_seed(1))


@pytest.mark.skipif(not dist.is_gloo_available(), reason="this torch has no gloo")
def test_batch_normalisation_of_two_ranks_is_that_of_the_joined_batch(tmp_path: Path) -> None:
    run_ranks(_normalise_as_rank, str(tmp_path))
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]
    layer = torch.nn.BatchNorm2d(3)
    output, gradient, *statistics = _normalised([_feature_maps()], layer)
    torch.testing.assert_close(torch.cat([rank[0] for rank in ranks]), output, rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(torch.cat([rank[1] for rank in ranks]), gradient, rtol=1e-4, atol=1e-5)
    for rank in ranks:
        torch.testing.assert_close(rank[2:], statistics)


def _autoencoder() -> torch.nn.Sequential:
    class Codes(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quantizer = VectorQuantizer(16, 8, code_dim=4, restart_every=2)

        def forward(self, z_e: torch.Tensor) -> torch.Tensor:
            return self.quantizer(z_e).z_q

    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 8, 3, padding=1), Codes(), torch.nn.Conv2d(8, 3, 3, padding=1)
    return torch.nn.Sequential(*layers).to(memory_format=torch.channels_last)


def _images(step: int) -> torch.Tensor:
    images = torch.rand(8, 3, 6, 6, generator=torch.Generator().manual_seed(step))
    return images.contiguous(memory_format=torch.channels_last)


def _train(model: torch.nn.Module, rank: int | None) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(6):
        images = _images(step) if rank is None else _images(step).chunk(RANKS)[rank]
        optimizer.zero_grad()
        (model(images) - images).square().mean().backward()
        optimizer.step()


def _run_wrapped_rank(rank: int, folder: str, wrapper: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS)
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    model = _autoencoder()
    if wrapper == "DDP":
        _train(torch.nn.parallel.DistributedDataParallel(model), rank)
        state = model.state_dict()
    else:
        fully_shard(model.to(memory_format=torch.contiguous_format))
        _train(model, rank)
        state = {key: v.full_tensor() if isinstance(v, DTensor) else v for key, v in model.state_dict().items()}
    torch.save(state, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_gloo_available(), reason="this torch has no gloo")
@pytest.mark.parametrize("wrapper", ["DDP", "FSDP"])
def test_a_model_on_two_ranks_trains_without_a_warning_as_on_one(tmp_path: Path, wrapper: str) -> None:
    run_ranks(_run_wrapped_rank, str(tmp_path), wrapper)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]
    single = _autoencoder()
    _train(single, None)
    for name, value in single.state_dict().items():
        torch.testing.assert_close(ranks[0][name], value, msg=name, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ranks[1][name], value, msg=name, rtol=1e-4, atol=1e-5)
