"""Compiles and exports quantizers with fixed codes, compares each with the original, and prints a word for each."""

from __future__ import annotations

import copy

import onnxruntime
import torch
from compiled_layers import train, vectors
from torch import Tensor

from vqlab import BinarySphericalQuantizer, FiniteScalarQuantizer, LookupFreeQuantizer, SimVQ


class Indices(torch.nn.Module):
    """The indices of a layer, as the exporter takes modules only."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, z_e: Tensor) -> Tensor:
        return self.layer(z_e).indices


class Decoded(Indices):
    """z_q of indices."""

    def forward(self, indices: Tensor) -> Tensor:
        return self.layer.decode(indices)


def compiled(layer: torch.nn.Module) -> None:
    eager = copy.deepcopy(layer)
    torch.compiler.reset()
    module = torch.compile(layer, fullgraph=True, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for seed in range(3):
            torch.testing.assert_close(train(module, seed), train(eager, seed))
    module.eval(), eager.eval()
    torch.testing.assert_close(tuple(module(vectors(9))), tuple(eager(vectors(9))))
    print("compiled")


def exported(layer: torch.nn.Module) -> None:
    program = torch.export.export(layer, (vectors(1),)).module()
    torch.testing.assert_close(tuple(program(vectors(2))), tuple(layer(vectors(2))))
    print("exported")


def to_onnx(layer: torch.nn.Module) -> None:
    z_e = vectors(3)
    indices = layer(z_e).indices
    for module, inputs in ((Indices(layer), z_e), (Decoded(layer), indices)):
        program = torch.onnx.export(module, (inputs[:2],), dynamic_shapes=({0: "batch"},), verbose=False)
        session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
        (output,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
        torch.testing.assert_close(torch.from_numpy(output), module(inputs).detach())
    print("onnx")


def main(family: str) -> None:
    """Compile, and export what has no state."""
    torch.manual_seed(0)
    if family == "trained":
        compiled(SimVQ(16, 8))
        return
    bits = [LookupFreeQuantizer(6, 8), BinarySphericalQuantizer(18, 8, transport="rotation")]
    for layer in {"scalars": [FiniteScalarQuantizer([8, 5, 4], 8)], "bits": bits}[family]:
        compiled(layer)
        exported(layer.eval())
        to_onnx(layer)
