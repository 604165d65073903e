"""The probe on our layer and on modules that are not ours."""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vae import VectorQuantizer as DiffusersQuantizer
from torch import Tensor, nn
from vector_quantize_pytorch import VectorQuantize

import vqlab
from vqlab import InputError, VectorQuantizer
from vqlab.plots import probe_histograms
from vqlab.probe import COLUMNS, angles


def z_e(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).requires_grad_()


def loss_of(z_q: Tensor) -> Tensor:
    """Its gradient at z_q is a fixed random tensor."""
    return (z_q.float() * torch.randn(z_q.shape, generator=torch.Generator().manual_seed(1))).sum()


def ours(transport: str) -> VectorQuantizer:
    return VectorQuantizer(32, 8, transport=transport, init="normal", seed=2)


def test_angles_agree_with_numpy_and_keep_digits_near_zero() -> None:
    a, b = (torch.randn(50, 6, dtype=torch.float64) for _ in range(2))
    expected = np.degrees(np.arccos([float(x @ y / x.norm() / y.norm()) for x, y in zip(a, b, strict=True)]))
    np.testing.assert_allclose(angles(a, b).numpy(), expected, rtol=1e-9)
    near = torch.tensor([[1.0, 1e-5]])
    assert angles(torch.tensor([[1.0, 0.0]]), near).item() == pytest.approx(np.degrees(1e-5), rel=1e-4)
    assert angles(torch.zeros(1, 2), near).isnan().all()


def test_rotation_keeps_the_angle_to_the_own_vector_and_straight_through_keeps_the_gradient() -> None:
    for transport in ("rotation", "straight_through"):
        layer = ours(transport)
        with vqlab.probe(layer) as seen:
            out = layer(z_e(4, 8, 5, 5))
            # The commitment term also reaches z_e; the probe must show what came through z_q alone.
            (loss_of(out.z_q) + 100 * out.loss).backward()
        table = seen.table()
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
    with vqlab.probe(module) as seen:
        quantized, _, commitment = module(z_e(4, 25, 8))
        (loss_of(quantized) + commitment.sum()).backward()
    table = seen.table()
    assert len(table) == 100
    if rotation:
        np.testing.assert_allclose(table["angle_at_e"], table["angle_at_q"], atol=0.05)
    else:
        np.testing.assert_allclose(table["angle_gradients"], 0, atol=1e-2)


def test_it_reads_diffusers_channels_first() -> None:
    torch.manual_seed(0)
    module = DiffusersQuantizer(32, 8, beta=0.25)
    with vqlab.probe(module) as seen:
        z_q, loss, _ = module(z_e(2, 8, 4, 4))
        (loss_of(z_q) + loss).backward()
    table = seen.table()
    assert len(table) == 32
    np.testing.assert_allclose(table["cos_gradients"], 1, atol=1e-5)


@dataclass
class Output:
    aux: Tensor
    z_q: Tensor


class Halved(nn.Module):
    """A user's own: keyword input, output object, channels last."""

    def forward(self, *, x: Tensor) -> Output:
        return Output(torch.zeros_like(x), x / 2)


def test_it_reads_a_users_own_module_with_keyword_input_and_output_object() -> None:
    module = Halved()
    with vqlab.probe(module) as seen:
        loss_of(module(x=z_e(10, 6)).z_q).backward()
    np.testing.assert_allclose(seen.table()["length_ratio"], 0.5, rtol=1e-6)
    np.testing.assert_allclose(seen.table()["rescale"], 0.5, rtol=1e-6)


def test_without_a_gradient_the_geometry_is_there_and_the_gradients_are_nan() -> None:
    layer = ours("rotation").eval()
    with vqlab.probe(layer) as seen, torch.no_grad():
        layer(z_e(1, 8, 3, 3))
    assert seen.table()["angle_codes"].notna().all()
    assert seen.table()["angle_gradients"].isna().all()


def test_nothing_stays_behind() -> None:
    layer = ours("rotation")
    x = z_e(2, 8, 4, 4)
    with vqlab.probe(layer) as seen:
        out = layer(x)
        loss_of(out.z_q).backward()
        layer(x)  # no backward ever comes for this one
    assert not layer._forward_hooks
    alive = [weakref.ref(x), weakref.ref(out.z_q)]
    del x, out
    gc.collect()
    assert [ref() for ref in alive] == [None, None]
    assert all(not value.requires_grad for value in seen.records().values())


def test_training_under_the_probe_gives_the_same_gradients() -> None:
    plain, watched = ours("rotation"), ours("rotation")
    x, y = z_e(2, 8, 4, 4), z_e(2, 8, 4, 4)
    loss_of(plain(x).z_q).backward()
    with vqlab.probe(watched):
        loss_of(watched(y).z_q).backward()
    assert torch.equal(x.grad, y.grad)


def test_it_works_under_autocast() -> None:
    layer, mix = ours("rotation"), nn.Conv2d(8, 8, 1)
    with vqlab.probe(layer) as seen, torch.autocast("cpu", torch.bfloat16):
        loss_of(layer(mix(z_e(2, 8, 4, 4))).z_q).backward()
    assert seen.table()[list(COLUMNS)].notna().all().all()


def test_it_works_on_a_compiled_module() -> None:
    torch.manual_seed(0)
    maybe_compile = torch.compile(Halved(), backend="aot_eager")
    with vqlab.probe(maybe_compile) as seen:
        loss_of(maybe_compile(x=z_e(10, 6)).z_q).backward()
    np.testing.assert_allclose(seen.table()["length_ratio"], 0.5, rtol=1e-6)


def test_long_passes_are_sampled_and_the_summary_and_figure_are_labelled() -> None:
    layer = ours("rotation")
    with vqlab.probe(layer, max_tokens=50) as seen:
        for _ in range(3):
            loss_of(layer(z_e(4, 8, 5, 5)).z_q).backward()
    table = seen.table()
    assert table.groupby("call").size().tolist() == [50, 50, 50]
    assert seen.summary().loc["obtuse_share", "mean"] == (table["angle_codes"] > 90).mean()
    figure = probe_histograms(seen)
    assert all(axis.get_xlabel() and axis.get_ylabel() for axis in figure.axes)


@pytest.mark.parametrize(
    ("module", "told"),
    [
        (nn.Linear(8, 3), "no output has the input's shape"),
        (nn.Embedding(5, 8), "no floating-point tensor"),
    ],
)
def test_a_module_that_cannot_be_read_is_refused(module: nn.Module, told: str) -> None:
    given = torch.zeros(4, dtype=torch.int64) if isinstance(module, nn.Embedding) else z_e(4, 8)
    with pytest.raises(InputError, match=told), vqlab.probe(module):
        module(given)
    assert not module._forward_hooks


def test_a_probe_that_saw_nothing_and_a_thing_that_is_no_module_are_refused() -> None:
    with vqlab.probe(ours("rotation")) as seen:
        pass
    with pytest.raises(InputError, match="nothing was seen"):
        seen.table()
    with pytest.raises(InputError, match="give the vector-quantization module"):
        vqlab.probe("rotation")
