"""The probe on vqlab's layer and on modules of other libraries."""

from __future__ import annotations

import gc
import inspect
import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vae import VectorQuantizer as DiffusersQuantizer
from torch import Tensor, nn
from vector_quantize_pytorch import VectorQuantize

import vqlab
from vqlab import InputError, VectorQuantizer
from vqlab.analysis import fraction_maps
from vqlab.plots import probe_histograms
from vqlab.probe import COLUMNS, angles, token_records
from vqlab.probe.module_io import find_channel_dim
from vqlab.quantize import transport_gradient


def z_e(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).requires_grad_()


def loss_of(z_q: Tensor) -> Tensor:
    """Its gradient at z_q is a fixed random tensor."""
    return (z_q.float() * torch.randn(z_q.shape, generator=torch.Generator().manual_seed(1))).sum()


def quantizer(transport: str) -> VectorQuantizer:
    return VectorQuantizer(32, 8, transport=transport, init="normal", seed=2)


def test_angles_agree_with_numpy_and_keep_digits_near_zero() -> None:
    a, b = (torch.randn(50, 6, dtype=torch.float64) for _ in range(2))
    expected = np.degrees(np.arccos([float(x @ y / x.norm() / y.norm()) for x, y in zip(a, b, strict=True)]))
    np.testing.assert_allclose(angles(a, b).numpy(), expected, rtol=1e-9)
    near = torch.tensor([[1.0, 1e-5]])
    assert angles(torch.tensor([[1.0, 0.0]]), near).item() == pytest.approx(np.degrees(1e-5), rel=1e-4)
    assert angles(torch.zeros(1, 2), near).isnan().all()


def test_rotation_keeps_the_angle_to_the_vector_and_straight_through_keeps_the_gradient() -> None:
    for transport in ("rotation", "straight_through"):
        layer = quantizer(transport)
        with vqlab.probe(layer) as probe:
            out = layer(z_e(4, 8, 5, 5))
            # The commitment term also has a gradient at z_e; the probe must record the gradient through z_q alone.
            (loss_of(out.z_q) + 100 * out.loss).backward()
        table = probe.table()
        assert len(table) == 100
        if transport == "rotation":
            np.testing.assert_allclose(table["angle_at_e"], table["angle_at_q"], atol=1e-2)
            np.testing.assert_allclose(table["length_ratio"], table["rescale"], rtol=1e-4)
            assert (table["angle_gradients"] > 1).all()
        else:
            np.testing.assert_allclose(table["angle_gradients"], 0, atol=1e-3)
            np.testing.assert_allclose(table["length_ratio"], 1, rtol=1e-6)


@pytest.mark.parametrize("rotation", [True, False])
def test_it_reads_vector_quantize_pytorch(rotation: bool) -> None:
    torch.manual_seed(0)
    module = VectorQuantize(dim=8, codebook_size=32, rotation_trick=rotation)
    with vqlab.probe(module) as probe:
        quantized, _, commitment = module(z_e(4, 25, 8))
        (loss_of(quantized) + commitment.sum()).backward()
    table = probe.table()
    assert len(table) == 100
    if rotation:
        np.testing.assert_allclose(table["angle_at_e"], table["angle_at_q"], atol=0.05)
    else:
        np.testing.assert_allclose(table["angle_gradients"], 0, atol=1e-2)


def test_it_reads_diffusers_channels_first() -> None:
    torch.manual_seed(0)
    module = DiffusersQuantizer(32, 8, beta=0.25)
    with vqlab.probe(module) as probe:
        z_q, loss, _ = module(z_e(2, 8, 4, 4))
        (loss_of(z_q) + loss).backward()
    table = probe.table()
    assert len(table) == 32
    np.testing.assert_allclose(table["cos_gradients"], 1, atol=1e-5)


@dataclass
class Output:
    aux: Tensor
    z_q: Tensor


class Halved(nn.Module):
    """A module of a user: keyword input, output object, channels last."""

    def forward(self, *, x: Tensor) -> Output:
        return Output(torch.zeros_like(x), x / 2)


def test_it_reads_a_users_own_module_with_keyword_input_and_output_object() -> None:
    module = Halved()
    with vqlab.probe(module) as probe:
        loss_of(module(x=z_e(10, 6)).z_q).backward()
    np.testing.assert_allclose(probe.table()["length_ratio"], 0.5, rtol=1e-6)
    np.testing.assert_allclose(probe.table()["rescale"], 0.5, rtol=1e-6)


def test_without_a_backward_the_angles_of_codes_are_recorded_and_the_gradients_are_nan() -> None:
    layer = quantizer("rotation").eval()
    with vqlab.probe(layer) as probe, torch.no_grad():
        layer(z_e(1, 8, 3, 3))
    assert probe.table()["angle_codes"].notna().all()
    assert probe.table()["angle_gradients"].isna().all()


def test_no_hook_and_no_tensor_of_the_model_stay() -> None:
    layer = quantizer("rotation")
    x = z_e(2, 8, 4, 4)
    with vqlab.probe(layer) as probe:
        out = layer(x)
        loss_of(out.z_q).backward()
        layer(x)  # a pass without a backward
    assert not layer._forward_hooks
    references = [weakref.ref(x), weakref.ref(out.z_q)]
    del x, out
    gc.collect()
    assert [reference() for reference in references] == [None, None]
    assert all(not value.requires_grad for value in probe.records().values())


def test_training_under_the_probe_gives_the_same_gradients() -> None:
    plain, probed = quantizer("rotation"), quantizer("rotation")
    x, y = z_e(2, 8, 4, 4), z_e(2, 8, 4, 4)
    loss_of(plain(x).z_q).backward()
    with vqlab.probe(probed):
        loss_of(probed(y).z_q).backward()
    assert torch.equal(x.grad, y.grad)


def test_it_works_under_autocast() -> None:
    layer, convolution = quantizer("rotation"), nn.Conv2d(8, 8, 1)
    with vqlab.probe(layer) as probe, torch.autocast("cpu", torch.bfloat16):
        loss_of(layer(convolution(z_e(2, 8, 4, 4))).z_q).backward()
    assert probe.table()[list(COLUMNS)].notna().all().all()


def test_it_works_on_a_compiled_module() -> None:
    torch.manual_seed(0)
    compiled = torch.compile(Halved(), backend="aot_eager")
    with vqlab.probe(compiled) as probe:
        loss_of(compiled(x=z_e(10, 6)).z_q).backward()
    np.testing.assert_allclose(probe.table()["length_ratio"], 0.5, rtol=1e-6)


def test_long_passes_are_sampled_and_the_summary_and_figure_are_labelled() -> None:
    layer = quantizer("rotation")
    with vqlab.probe(layer, max_tokens=50) as probe:
        for _ in range(3):
            loss_of(layer(z_e(4, 8, 5, 5)).z_q).backward()
    table = probe.table()
    assert table.groupby("call").size().tolist() == [50, 50, 50]
    assert probe.summary().loc["obtuse_share", "mean"] == (table["angle_codes"] > 90).mean()
    figure = probe_histograms(probe)
    assert all(axis.get_xlabel() and axis.get_ylabel() for axis in figure.axes)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Linear(8, 3), r"no output of Linear has the input's shape \(4, 8\); probe the module"),
        (nn.Embedding(5, 8), "Embedding has no floating-point tensor"),
    ],
)
def test_a_module_without_z_e_or_z_q_is_refused(module: nn.Module, message: str) -> None:
    inputs = torch.zeros(4, dtype=torch.int64) if isinstance(module, nn.Embedding) else z_e(4, 8)
    with pytest.raises(InputError, match=message), vqlab.probe(module):
        module(inputs)
    assert not module._forward_hooks


@pytest.mark.wrong_types
def test_a_probe_without_tokens_and_invalid_arguments_are_refused() -> None:
    with vqlab.probe(quantizer("rotation")) as probe:
        pass
    with pytest.raises(InputError, match="no token of VectorQuantizer was recorded"):
        probe.table()
    with pytest.raises(InputError, match=r"module is a str, must be a torch\.nn\.Module"):
        vqlab.probe("rotation")
    with pytest.raises(InputError, match="max_tokens=0: must be at least 1"):
        vqlab.probe(quantizer("rotation"), max_tokens=0)
    layer = quantizer("rotation")
    with (
        pytest.raises(InputError, match="channel_dim=4: the tensor has 4 axes, must be in -4…3"),
        vqlab.probe(layer, channel_dim=4),
        torch.no_grad(),
    ):
        layer(z_e(1, 8, 3, 3))


IMPORTS = (
    "import vqlab; call = vqlab.probe; Probe = vqlab.probe.Probe",
    "from vqlab import probe; call = probe; Probe = probe.Probe",
    "import vqlab.probe; call = vqlab.probe; Probe = vqlab.probe.Probe",
    "import vqlab; vqlab.probe; import vqlab.probe; call = vqlab.probe; Probe = vqlab.probe.Probe",
    "from vqlab.probe import Probe; from vqlab import probe; call = probe",
    "from vqlab.probe import probe; import vqlab.probe; call = vqlab.probe; Probe = vqlab.probe.Probe",
    "import vqlab.probe.module_probe as m; import vqlab; call = vqlab.probe; Probe = m.Probe",
    "import vqlab.quantize; from vqlab import probe; call = probe; Probe = vqlab.probe.Probe",
    "from vqlab import *; call = probe; Probe = probe.Probe",
)
IMPORT_SCRIPT = """
import sys, torch
for statements in sys.argv[1:]:
    for name in [name for name in sys.modules if name.split(".")[0] == "vqlab"]:
        del sys.modules[name]
    names = {}
    exec(statements, names)
    assert type(names["call"](torch.nn.Identity(), max_tokens=3)) is names["Probe"], statements
    assert names["call"].probe is names["call"].module_probe.probe, statements
"""


def test_the_package_is_callable_after_every_order_of_imports() -> None:
    subprocess.run([sys.executable, "-c", IMPORT_SCRIPT, *IMPORTS], check=True)


def test_the_callable_package_documents_the_function() -> None:
    assert vqlab.probe.__call__.__doc__ == vqlab.probe.probe.__doc__
    assert inspect.signature(vqlab.probe) == inspect.signature(vqlab.probe.probe)


def test_a_layer_with_projections_is_recorded_in_the_space_of_its_codes() -> None:
    generator = torch.Generator().manual_seed(0)
    layer = VectorQuantizer(16, 12, code_dim=3, transport="rotation", channel_dim=-1).double().eval()
    z_e = torch.randn(40, 12, generator=generator, dtype=torch.float64, requires_grad=True)
    g = torch.randn(40, 12, generator=generator, dtype=torch.float64)
    with vqlab.probe(layer) as probe:
        out = layer(z_e)
        out.z_q.backward(g)
    e = layer.project_in(z_e).detach()
    q = layer.codebook.detach()[out.indices]
    g_q = g @ layer.project_out.weight.detach()
    expected = token_records(e, q, g_q, transport_gradient(g_q, e, q, "rotation"))
    records = probe.records()
    for name, values in expected.items():
        torch.testing.assert_close(records[name], values.cpu(), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(records["angle_at_e"], records["angle_at_q"], rtol=0, atol=1e-2)


class Mapped(nn.Module):
    """A quantizer of a user whose backward is a function of g, e and q."""

    def __init__(self, backward: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.register_buffer("codebook", z_e(16, 8).detach() + 0.5)
        self.rule = backward

    def forward(self, e: Tensor) -> Tensor:
        rule, codebook = self.rule, self.codebook

        class Function(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, e: Tensor) -> Tensor:
                q = codebook[torch.cdist(e, codebook).argmin(dim=-1)]
                ctx.save_for_backward(e, q)
                return q

            @staticmethod
            def backward(ctx: Any, g: Tensor) -> Tensor:
                return rule(g, *ctx.saved_tensors)

        return Function.apply(e)


def rotations(e: Tensor, q: Tensor) -> Tensor:
    """R from e to q for each row, from its definition: the plane's angle and nothing else moves."""
    e, q = e / e.norm(dim=1, keepdim=True), q / q.norm(dim=1, keepdim=True)
    cos = (e * q).sum(1)
    across = q - cos[:, None] * e
    across = across / across.norm(dim=1, keepdim=True)
    skew = torch.einsum("ni,nj->nij", across, e) - torch.einsum("ni,nj->nij", e, across)
    return torch.matrix_exp(torch.arccos(cos)[:, None, None] * skew)


def rescale_of(e: Tensor, q: Tensor) -> Tensor:
    return (q.norm(dim=1) / e.norm(dim=1))[:, None]


def reflected(g: Tensor, e: Tensor, q: Tensor) -> Tensor:
    normal = e / e.norm(dim=1, keepdim=True) - q / q.norm(dim=1, keepdim=True)
    normal = normal / normal.norm(dim=1, keepdim=True)
    return rescale_of(e, q) * (g - 2 * (normal * g).sum(1, keepdim=True) * normal)


WRITTEN_OUT = {
    "straight-through, g": lambda g, e, q: g,
    "rotation, λRᵀg": lambda g, e, q: rescale_of(e, q) * torch.einsum("nij,ni->nj", rotations(e, q), g),
    "rotation not transposed, λRg": lambda g, e, q: rescale_of(e, q) * torch.einsum("nij,nj->ni", rotations(e, q), g),
    "rotation without rescale, Rᵀg": lambda g, e, q: torch.einsum("nij,ni->nj", rotations(e, q), g),
    "rescale only, λg": lambda g, e, q: rescale_of(e, q) * g,
    "reflection, λMg": reflected,
    "error direction removed, g − (d̂·g)d̂": lambda g, e, q: (
        g - (g * (q - e)).sum(1, keepdim=True) / (q - e).square().sum(1, keepdim=True) * (q - e)
    ),
    "no gradient, 0": lambda g, e, q: torch.zeros_like(g),
}


@pytest.mark.parametrize("name", vqlab.probe.KNOWN_MAPS)
def test_it_names_the_map_of_a_backward_written_by_hand(name: str) -> None:
    module = Mapped(WRITTEN_OUT[name])
    with vqlab.probe(module) as probe:
        loss_of(module(z_e(200, 8))).backward()
    assert probe.backward_name().startswith(name)
    table = probe.maps()
    assert table["median residual"].iloc[0] < 1e-4
    assert table["median residual"].iloc[1] > 0.02
    assert name in probe._repr_html_().replace("&#x27;", "'")


def test_it_says_that_a_backward_is_none_of_the_known_maps() -> None:
    module = Mapped(lambda g, e, q: 0.5 * g)
    with vqlab.probe(module) as probe:
        loss_of(module(z_e(200, 8))).backward()
    assert probe.backward_name().startswith("none of the known maps; the nearest is ")


def test_it_names_the_maps_of_other_libraries() -> None:
    torch.manual_seed(0)
    names = []
    for module, shape in (
        (VectorQuantize(dim=8, codebook_size=32, rotation_trick=True), (4, 25, 8)),
        (VectorQuantize(dim=8, codebook_size=32, rotation_trick=False), (4, 25, 8)),
        (DiffusersQuantizer(32, 8, beta=0.25), (2, 8, 4, 4)),
        (vqlab.VectorQuantizer(32, 8, code_dim=4), (8, 8, 8, 8)),
        (vqlab.VectorQuantizer(32, 8, transport="reflection"), (8, 8, 8, 8)),
    ):
        with vqlab.probe(module) as probe:
            loss_of(module(z_e(*shape))[0]).backward()
        names.append(probe.backward_name().split(" (")[0])
    assert names == [
        "rotation, λRᵀg", "straight-through, g", "straight-through, g", "rotation, λRᵀg", "reflection, λMg"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "channel_dim"), [((3, 8, 50), 1), ((3, 50, 8), -1), ((2, 4, 5, 8), -1), ((2, 8, 4, 5), 1)]
)
def test_the_axis_of_the_channels_is_that_as_wide_as_the_codes(shape: tuple[int, ...], channel_dim: int) -> None:
    module = Mapped(lambda g, e, q: g)
    assert find_channel_dim(module, torch.zeros(shape)) == channel_dim


def test_an_axis_that_cannot_be_known_is_asked_for() -> None:
    with pytest.raises(InputError, match=r"which axis of \(3, 8, 8\) has the channels is not clear from Mapped"):
        find_channel_dim(Mapped(lambda g, e, q: g), torch.zeros(3, 8, 8))


def test_a_part_of_the_angle_lies_between_straight_through_and_the_rotation() -> None:
    maps = fraction_maps()
    assert maps["t = 0"].idxmin() == "straight-through, g"
    assert maps["t = 1"].idxmin() == "rotation, λRᵀg"
    assert maps.loc["straight-through, g"].is_monotonic_increasing
    assert maps.loc["rotation, λRᵀg"].is_monotonic_decreasing
