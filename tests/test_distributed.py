"""The layer on two ranks (gloo) compared with one process on the joined batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from vqlab import VectorQuantizer

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
    mp.spawn(_run_rank, (str(tmp_path),), nprocs=RANKS)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]
    single = _layer()
    restarts = 0
    for step in range(STEPS):
        restarts += int(single(torch.cat(_tokens(step))).stats["restarts"])
    assert restarts > 0
    for name, value in single.state_dict().items():
        assert torch.equal(ranks[0][name], ranks[1][name]), name
        torch.testing.assert_close(ranks[0][name], value, msg=name)
