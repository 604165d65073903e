"""Compiles, exports and traces the layer, compares each with the layer itself, and prints a word for each."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from vqlab import VectorQuantizer

STEPS = [
    {}, {"update": "gradient"}, {"code_dim": 4, "init": "data"}, {"distance": "cosine"}, {"transport": "nsvq"},
    {"update": "gradient", "assignment": "gumbel", "transport": "straight_through", "init": "normal"},
]  # fmt: skip


def vectors(seed: int) -> Tensor:
    return torch.randn(4, 8, 8, 8, generator=torch.Generator().manual_seed(seed))


def train(module: torch.nn.Module, seed: int) -> tuple[object, Tensor]:
    z_e = vectors(seed).requires_grad_()
    out = module(z_e)
    (out.z_q.pow(3).mean() + out.loss).backward()
    return tuple(out), z_e.grad


def compiled(arguments: dict[str, object]) -> None:
    """Training, with first fill and restarts, in one graph that is compiled once; then eval mode."""
    torch.manual_seed(0)
    layer = VectorQuantizer(16, 8, restart_every=2, **arguments)
    eager = copy.deepcopy(layer)
    torch.compiler.reset()
    module = torch.compile(layer, fullgraph=True, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for seed in range(6):
            torch.testing.assert_close(train(module, seed), train(eager, seed))
            torch.testing.assert_close(layer.state_dict(), eager.state_dict())
    module.eval(), eager.eval()
    torch.testing.assert_close(tuple(module(vectors(9))), tuple(eager(vectors(9))))
    print("compiled")


def exported(channel_dim: int) -> None:
    layer = VectorQuantizer(16, 8, code_dim=4, channel_dim=channel_dim)
    layer(vectors(0))
    program = torch.export.export(layer.eval(), (vectors(1),)).module()
    torch.testing.assert_close(tuple(program(vectors(2))), tuple(layer(vectors(2))))
    print("exported")


def traced(channel_dim: int) -> None:
    layer = VectorQuantizer(16, 8, code_dim=4, channel_dim=channel_dim)
    layer(vectors(0))
    program = torch.jit.trace(layer.eval(), vectors(1), strict=False)
    torch.testing.assert_close(tuple(program(vectors(2))), tuple(layer(vectors(2))))
    print("traced")


if __name__ == "__main__":
    for arguments in STEPS:
        compiled(arguments)
    for check in (exported, traced):
        for channel_dim in (1, -1):
            check(channel_dim)
