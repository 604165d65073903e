"""Compiles, exports and traces layer and model, compares each with the original, and prints a word for each.

With the argument ``rules``, compiles the layer with each of the codebook rules instead.
"""

from __future__ import annotations

import copy
import sys

import onnxruntime
import torch
from torch import Tensor

from vqlab import VectorQuantizer
from vqlab.config import ModelConfig, QuantizerConfig
from vqlab.models import VQVAE

STEPS = [
    {}, {"update": "gradient"}, {"code_dim": 4, "init": "data"}, {"distance": "cosine"}, {"transport": "nsvq"},
    {"update": "gradient", "assignment": "gumbel", "transport": "straight_through", "init": "normal"},
    {"rule": "cvq"},
]  # fmt: skip
RULES = [
    {"rule": "sinkhorn"}, {"rule": "region", "update": "gradient"},
    {"rule": "wasserstein", "update": "gradient"},
    {"rule": "ibq", "update": "gradient", "transport": "straight_through", "init": "normal"},
    {"rule": "sq_vae", "update": "gradient", "transport": "straight_through", "init": "normal"},
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


class Part(torch.nn.Module):
    """One method of a model as a module, as the exporter takes modules only."""

    def __init__(self, model: VQVAE, method: str) -> None:
        super().__init__()
        self.model, self.method = model, method

    def forward(self, inputs: Tensor) -> Tensor:
        return getattr(self.model, self.method)(inputs)


def to_onnx(block: str) -> None:
    """A whole model: images to indices, and indices to images, with any number of images."""
    model = VQVAE(
        ModelConfig(hidden=32, residual_hidden=16, residual_blocks=1, block=block),
        QuantizerConfig(num_codes=32, dim=16, code_dim=8),
    )
    images = torch.rand(24, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model(images)
    model.eval()
    indices = model.encode(images)
    for method, inputs in (("encode", images), ("decode", indices)):
        example = inputs[:4]
        program = torch.onnx.export(Part(model, method), (example,), dynamic_shapes=({0: "batch"},), verbose=False)
        session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
        (output,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
        expected = getattr(model, method)(inputs).detach()
        torch.testing.assert_close(torch.from_numpy(output), expected, rtol=0, atol=0 if method == "encode" else 1e-5)
    print("onnx")


def main() -> None:
    """All forms of the layer."""
    for block in ("paper", "prenorm"):
        to_onnx(block)
    for arguments in STEPS:
        compiled(arguments)
    for check in (exported, traced):
        for channel_dim in (1, -1):
            check(channel_dim)


if __name__ == "__main__":
    if sys.argv[1:] == ["rules"]:
        for rule in RULES:
            compiled(rule)
    else:
        main()
