"""Compiles the layer with inductor, and on CUDA runs it in parallel replicas; prints a word for each.

The argument is the device, cpu or cuda.
"""

from __future__ import annotations

import copy
import sys

import torch
import torch._inductor.config
from torch import Tensor

from vqlab import VectorQuantizer


def vectors(seed: int) -> Tensor:
    return torch.randn(8, 16, 8, 8, generator=torch.Generator().manual_seed(seed))


def compiled(device: str, *, training: bool, gradient: bool) -> None:
    torch.manual_seed(0)
    layer = VectorQuantizer(64, 16, init="normal", restart_every=0).to(device).train(training)
    program = torch.compile(copy.deepcopy(layer), fullgraph=True)
    for seed in range(3):
        z_e = vectors(seed).to(device).requires_grad_(gradient)
        expected, out = layer(z_e), program(z_e)
        assert torch.equal(out.indices, expected.indices)
        # Of the codes before the update of this step.
        torch.testing.assert_close(out.z_q, expected.z_q, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(program.codebook, layer.codebook, rtol=1e-4, atol=1e-5)
    print("compiled")


def parallel() -> None:
    layer = VectorQuantizer(64, 16, init="normal").cuda().eval()
    z_e = vectors(0).cuda()
    out = torch.nn.DataParallel(layer, device_ids=[0, 0])(z_e)
    assert torch.equal(out.indices, layer(z_e).indices)
    print("parallel")


if __name__ == "__main__":
    device = sys.argv[1]
    # Plain loops: which vector instructions there are is found by a compilation that a busy machine may not finish.
    torch._inductor.config.cpp.simdlen = 1
    compiled(device, training=True, gradient=True)
    compiled(device, training=True, gradient=False)
    compiled(device, training=False, gradient=False)
    if device == "cuda":
        parallel()
