"""Compiles the layer with inductor and runs it in parallel replicas on CUDA; prints a word for each."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from vqlab import VectorQuantizer


def vectors(seed: int) -> Tensor:
    return torch.randn(8, 16, 8, 8, generator=torch.Generator().manual_seed(seed)).cuda()


def compiled(training: bool) -> None:
    torch.manual_seed(0)
    layer = VectorQuantizer(64, 16, init="normal", restart_every=0).cuda().train(training)
    program = torch.compile(copy.deepcopy(layer), fullgraph=True)
    for seed in range(3):
        expected, out = layer(vectors(seed)), program(vectors(seed))
        assert torch.equal(out.indices, expected.indices)
        torch.testing.assert_close(out.z_q, expected.z_q, rtol=1e-4, atol=1e-5)
    print("compiled")


def parallel() -> None:
    layer = VectorQuantizer(64, 16, init="normal").cuda().eval()
    z_e = vectors(0)
    out = torch.nn.DataParallel(layer, device_ids=[0, 0])(z_e)
    assert torch.equal(out.indices, layer(z_e).indices)
    print("parallel")


if __name__ == "__main__":
    compiled(True)
    compiled(False)
    parallel()
