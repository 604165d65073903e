"""Exports models of a family to ONNX and with torch.export, compares each with the original, and prints its name."""

from __future__ import annotations

import sys

import onnxruntime
import torch
from compiled_layers import Part
from torch import Tensor

from vqlab.config import ModelConfig, QuantizerConfig
from vqlab.models import VQVAE

FAMILIES: dict[str, dict[str, object]] = {
    "vq": {},
    "product": {"family": "product", "heads": 2},
    "residual": {"family": "residual", "levels": 3},
    "residual, shared, joint": {"family": "residual", "levels": 3, "shared": True, "joint": True},
    "residual, beam": {"family": "residual", "levels": 2, "beam": 3},
    "residual of heads": {"family": "residual", "levels": 2, "heads": 2, "code_dim": 4},
    "fsq": {"family": "fsq", "fsq_levels": (8, 4)},
    "lfq": {"family": "lfq"},
    "bsq": {"family": "bsq"},
    "simvq": {"family": "simvq"},
}  # fmt: skip


def trained_model(family: str) -> tuple[VQVAE, Tensor]:
    settings = QuantizerConfig(num_codes=32, dim=16, **FAMILIES[family])
    model = VQVAE(ModelConfig(hidden=16, residual_hidden=8, residual_blocks=1), settings)
    images = torch.rand(24, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    model(images)
    return model.eval(), images


def check(output: Tensor, expected: Tensor, method: str) -> None:
    assert output.dtype == expected.dtype
    torch.testing.assert_close(output, expected, rtol=0, atol=0 if method == "encode" else 1e-5)


def export(family: str) -> None:
    """Images to indices, and indices to images, with any number of images."""
    model, images = trained_model(family)
    with torch.no_grad():
        indices = model.encode(images)
        for method, inputs in (("encode", images), ("decode", indices)):
            expected = getattr(model, method)(inputs)
            part, example, shapes = Part(model, method), inputs[:4], ({0: torch.export.Dim("batch")},)
            check(torch.export.export(part, (example,), dynamic_shapes=shapes).module()(inputs), expected, method)
            program = torch.onnx.export(part, (example,), dynamic_shapes=({0: "batch"},), verbose=False)
            session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
            (output,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
            check(torch.from_numpy(output), expected, method)
    print(f"exported {family}")


if __name__ == "__main__":
    for family in sys.argv[1:] or FAMILIES:
        export(family)
