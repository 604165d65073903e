"""Quantizers without a learned table: FSQ, LFQ and BSQ; and SimVQ, whose codes are fixed up to one linear map."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from command_processes import run_program
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy
from test_layer_in_training import no_wait_for_the_device
from torch import Tensor, nn

from vqlab import (
    BinarySphericalQuantizer,
    FiniteScalarQuantizer,
    InputError,
    LookupFreeQuantizer,
    MultiHeadQuantizer,
    SimVQ,
    VectorQuantizer,
)
from vqlab.quantize import fixed_codes, rowwise_transport_names, transport_gradient, transport_names, transports
from vqlab.quantize.fixed_codes import FixedCodesQuantizer
from vqlab.quantize.loss_terms import bit_entropies
from vqlab.quantize.transports import get_transport
from vqlab.quantize.usage import perplexity, usage_without_table

Make = Callable[..., FixedCodesQuantizer]
FAMILIES: dict[str, Make] = {
    "fsq": lambda dim, **options: FiniteScalarQuantizer([8, 5, 4], dim, **options),
    "lfq": lambda dim, **options: LookupFreeQuantizer(5, dim, **options),
    "bsq": lambda dim, **options: BinarySphericalQuantizer(5, dim, **options),
}
CODE_DIMS = {"fsq": 3, "lfq": 5, "bsq": 5}
BACKWARD = [name for name in transport_names() if get_transport(name).backward]
each_family = pytest.mark.parametrize("family", FAMILIES)


def vectors(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def layer_of(family: str, *, projected: bool = True, **options: object) -> FixedCodesQuantizer:
    torch.manual_seed(0)
    return FAMILIES[family](8 if projected else CODE_DIMS[family], channel_dim=-1, **options)


# Values and gradients: written out in numpy, and of vector-quantize-pytorch.


@pytest.mark.parametrize("levels", [[8, 5, 4], [3], [7, 5, 5, 5], [1000, 999]])
def test_fsq_is_the_formula_of_its_paper(levels: list[int]) -> None:
    layer = FiniteScalarQuantizer(levels, len(levels), channel_dim=-1)
    z = (vectors(500, len(levels)) * 2).double().requires_grad_()
    g = vectors(500, len(levels), seed=1).double()
    out = layer(z)
    out.z_q.backward(g)
    counts, x = np.array(levels), z.detach().numpy()
    half, offset = (counts - 1) * 1.001 / 2, np.where(counts % 2 == 0, 0.5, 0.0)
    inner = np.tanh(x + np.arctanh(offset / half))
    digits = np.round(inner * half - offset)
    np.testing.assert_allclose(out.z_q.detach(), digits / (counts // 2), rtol=1e-6)
    places = np.concatenate([[1], np.cumprod(counts)[:-1]])
    np.testing.assert_array_equal(out.indices, ((digits + counts // 2) * places).sum(axis=1))
    np.testing.assert_allclose(z.grad, g.numpy() * (1 - inner**2) * half / (counts // 2), rtol=1e-9, atol=1e-12)
    assert out.loss == 0


@pytest.mark.parametrize("family", ["lfq", "bsq"])
def test_lfq_and_bsq_are_the_formulas_of_their_papers(family: str) -> None:
    layer = layer_of(family, projected=False, beta=0.3, entropy_weight=0.5, diversity_weight=0.7, temperature=0.9,
                     group_bits=5)  # fmt: skip
    z = vectors(200, 5).double().requires_grad_()
    g = vectors(200, 5, seed=1).double()
    out = layer(z)
    e = z / z.norm(dim=1, keepdim=True) if family == "bsq" else z
    size = 5**-0.5 if family == "bsq" else 1.0
    bits = (z > 0).long()
    q = (2 * bits - 1) * size
    torch.testing.assert_close(out.z_q, q.double(), rtol=1e-6, atol=0)
    assert torch.equal(out.indices, (bits * torch.tensor([16, 8, 4, 2, 1])).sum(dim=1))
    # The probabilities over the whole table of codes.
    codes = layer.codebook.double()
    p = torch.softmax(-torch.cdist(e, codes).square() / 0.9, dim=1)
    mean = p.mean(dim=0)
    loss = 0.3 * (e - q).square().mean() - 0.5 * (p * p.log()).sum(dim=1).mean()
    loss = loss + 0.7 * (5 * math.log(2) + (mean * mean.log()).sum())
    torch.testing.assert_close(out.loss, loss, rtol=1e-6, atol=1e-7)
    (expected,) = torch.autograd.grad((e * g).sum() + loss, z)
    (found,) = torch.autograd.grad((out.z_q * g).sum() + out.loss, z)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dim", [3, 8])
def test_fsq_agrees_with_vector_quantize_pytorch(dim: int) -> None:
    peer_module = pytest.importorskip("vector_quantize_pytorch")
    torch.manual_seed(0)
    peer, layer = peer_module.FSQ([8, 5, 4], dim=dim), FiniteScalarQuantizer([8, 5, 4], dim, channel_dim=-1)
    if dim != 3:
        layer.project_in, layer.project_out = copy.deepcopy(peer.project_in), copy.deepcopy(peer.project_out)
    z, other = (vectors(2, 300, dim).mul(2).requires_grad_() for _ in range(2))
    z_q, indices = peer(z)
    out = layer(other)
    assert torch.equal(out.indices, indices.long())
    torch.testing.assert_close(out.z_q, z_q, rtol=1e-5, atol=1e-6)
    z_q.pow(3).sum().backward()
    out.z_q.pow(3).sum().backward()
    torch.testing.assert_close(other.grad, z.grad, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(layer.decode(indices.long()), peer.indices_to_codes(indices), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dim", [6, 8])
@pytest.mark.parametrize("spherical", [False, True])
def test_lfq_and_bsq_agree_with_vector_quantize_pytorch(spherical: bool, dim: int) -> None:
    peer_module = pytest.importorskip("vector_quantize_pytorch")
    torch.manual_seed(0)
    peer = peer_module.LFQ(dim=dim, codebook_size=64, entropy_loss_weight=0.1, diversity_gamma=2.0, spherical=spherical,
                           commitment_loss_weight=0.25)  # fmt: skip
    # Its entropy of the mean is over all 64 codes, which group_bits=6 gives without the table.
    make = BinarySphericalQuantizer if spherical else LookupFreeQuantizer
    layer = make(6, dim, channel_dim=-1, beta=0.25, entropy_weight=0.1, diversity_weight=0.2, temperature=0.5,
                 group_bits=6)  # fmt: skip
    if dim != 6:
        layer.project_in, layer.project_out = copy.deepcopy(peer.project_in), copy.deepcopy(peer.project_out)
    z, other = (vectors(2, 300, dim).requires_grad_() for _ in range(2))
    z_q, indices, loss = peer(z, inv_temperature=2.0)
    out = layer(other)
    assert torch.equal(out.indices, indices.long())
    torch.testing.assert_close(out.z_q, z_q, rtol=1e-5, atol=1e-6)
    # Its diversity term is −H, ours log K − H. It clamps probabilities at 1e-5 in the logarithm.
    torch.testing.assert_close(out.loss, loss + 0.2 * 6 * math.log(2), rtol=1e-4, atol=1e-4)
    (z_q.pow(3).mean() + loss).backward()
    (out.z_q.pow(3).mean() + out.loss).backward()
    torch.testing.assert_close(other.grad, z.grad, rtol=1e-5, atol=1e-5)


@each_family
@pytest.mark.parametrize("kind", BACKWARD)
def test_every_backward_rule_carries_the_gradient_from_code_to_scalars(family: str, kind: str) -> None:
    layer = layer_of(family, projected=False, transport=kind)
    z = vectors(60, CODE_DIMS[family]).double().requires_grad_()
    g = vectors(60, CODE_DIMS[family], seed=1).double()
    out = layer(z)
    e = layer.bypass(z)
    grad_e = transport_gradient(g, e, out.z_q, kind)
    (expected,) = torch.autograd.grad(e, z, grad_e)
    (found,) = torch.autograd.grad(out.z_q, z, g)
    torch.testing.assert_close(found, expected)


@each_family
def test_transports_without_sense_are_refused(family: str) -> None:
    for kind in set(transport_names()) - set(BACKWARD):
        with pytest.raises(InputError, match="codes are fixed"):
            layer_of(family, transport=kind)
    with pytest.raises(InputError, match="transport_fraction"):
        layer_of(family, transport_fraction=1.5)


# Entropies and usage without a table.


@pytest.mark.parametrize("group_bits", [1, 2, 3, 6])
def test_bit_entropies_are_those_of_the_table_of_each_group(group_bits: int) -> None:
    logits = vectors(40, 6).double() * 3
    rows = torch.arange(40) < 30
    uncertainty, unevenness = bit_entropies(logits, rows, group_bits)
    ones = torch.sigmoid(logits[:30]).numpy()
    bits = (np.arange(2**group_bits)[:, None] >> np.arange(group_bits)[::-1]) & 1
    assert uncertainty.item() == pytest.approx(sum(entropy([p, 1 - p]).mean() for p in ones.T))
    entropies = []
    for start in range(0, 6, group_bits):
        p = ones[:, None, start : start + group_bits]
        entropies.append(entropy(np.where(bits, p, 1 - p).prod(axis=2).mean(axis=0)))
    assert unevenness.item() == pytest.approx(6 * math.log(2) - sum(entropies))


def test_groups_of_bits_bound_the_entropy_of_the_table_from_above() -> None:
    logits = vectors(50, 6) * 3
    found = [float(bit_entropies(logits, torch.ones(50, dtype=torch.bool), group)[1]) for group in (1, 2, 6)]
    assert found == sorted(found)


def test_entropies_of_very_sure_bits_have_a_finite_gradient() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0]]).requires_grad_()
    sum(bit_entropies(logits, torch.ones(1, dtype=torch.bool))).backward()
    assert logits.grad.isfinite().all()


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(0, 40))
@settings(max_examples=50, deadline=None)
def test_usage_without_a_table_is_that_of_the_table(values: list[int], kept: int) -> None:
    indices = torch.tensor(values, dtype=torch.int64)
    rows = torch.arange(len(values)) < kept
    found, used = usage_without_table(indices, rows)
    counts = indices[rows].bincount(minlength=10)
    torch.testing.assert_close(found, perplexity(counts))
    assert used == (counts > 0).sum()
    assert usage_without_table(indices + (1 << 61), rows)[1] == used


# Indices.


@each_family
@given(st.integers(0, 2**16), st.floats(1e-3, 1e3), st.booleans())
@settings(max_examples=25, deadline=None)
def test_indices_are_in_range_decode_to_the_output_and_are_kept_by_a_second_pass(
    family: str, seed: int, scale: float, projected: bool
) -> None:
    layer = layer_of(family, projected=projected).eval()
    out = layer(vectors(3, 7, layer.dim, seed=seed) * scale)
    assert out.indices.dtype == torch.int64
    assert 0 <= out.indices.min() <= out.indices.max() < layer.num_codes
    assert torch.equal(layer.decode(out.indices), out.z_q)
    if not projected and family != "fsq":
        assert torch.equal(layer(out.z_q).indices, out.indices)


def test_fsq_finds_the_index_of_each_code_again_from_scalars_that_are_bounded_to_it() -> None:
    layer = FiniteScalarQuantizer([8, 5, 4], 3, channel_dim=-1)
    half, centre = torch.tensor([3.5035, 2.002, 1.5015]), torch.tensor([4, 2, 2])
    offset = torch.tensor([0.5, 0.0, 0.5])
    # The outermost bounded values are half a thousandth beyond a level or half a level inside of it.
    bounded = (layer.codebook * centre + offset).clamp(-half + 1e-3, half - 1e-3)
    z = torch.atanh(bounded / half) - torch.atanh(offset / half)
    assert torch.equal(layer(z).indices, torch.arange(160))


@each_family
def test_the_codebook_has_a_row_for_each_index_and_no_row_twice(family: str) -> None:
    layer = layer_of(family, projected=False)
    codes = layer.codebook
    assert codes.shape == (layer.num_codes, CODE_DIMS[family])
    assert len(codes.unique(dim=0)) == layer.num_codes
    assert torch.equal(layer.decode(torch.arange(layer.num_codes)), codes)
    assert layer.bits == pytest.approx(math.log2(layer.num_codes))
    assert layer.codes_per_vector == 1


def test_a_table_that_is_too_large_is_refused_and_the_layer_works_without_it() -> None:
    layer = BinarySphericalQuantizer(62, 8, channel_dim=-1)
    with pytest.raises(InputError, match=r"decode\(indices\)"):
        _ = layer.codebook
    out = layer(vectors(50, 8))
    assert torch.equal(layer.decode(out.indices), out.z_q)
    assert out.indices.min() >= 0
    assert out.stats["perplexity"] == pytest.approx(50, rel=1e-5)
    assert "50 vectors" in out._repr_html_()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FiniteScalarQuantizer([], 4), "levels"),
        (lambda: FiniteScalarQuantizer([8, 2], 4), "LookupFreeQuantizer"),
        (lambda: FiniteScalarQuantizer([8, 1001], 4), "levels"),
        (lambda: FiniteScalarQuantizer([1000] * 7, 4), "62"),
        (lambda: LookupFreeQuantizer(0, 4), "bits=0"),
        (lambda: LookupFreeQuantizer(63, 4), "62"),
        (lambda: LookupFreeQuantizer(6, 4, group_bits=4), "group_bits=4"),
        (lambda: LookupFreeQuantizer(42, 4, group_bits=21), "group_bits=21"),
        (lambda: BinarySphericalQuantizer(6, 4, temperature=0.0), "temperature"),
        (lambda: BinarySphericalQuantizer(6, 4, entropy_weight=-1.0), "entropy_weight"),
        (lambda: BinarySphericalQuantizer(6, 0), "dim=0"),
        (lambda: BinarySphericalQuantizer(6, 4, channel_dim=2), "channel_dim"),
        (lambda: BinarySphericalQuantizer(6, 4)(torch.zeros(3, 5)), "dim=4"),
        (lambda: BinarySphericalQuantizer(6, 4).decode(torch.tensor([64])), "indices"),
        (lambda: SimVQ(8, 4, update="ema"), "update"),
        (lambda: SimVQ(8, 4).fit_codes(torch.zeros(8, 4)), "fixed"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


# The contract of the layer.


@each_family
@pytest.mark.parametrize("shape", [(0, 8), (1, 8), (3, 8, 6), (2, 8, 4, 5), (2, 8, 2, 3, 2)])
def test_shapes_and_statistics_are_those_of_the_vector_quantizer(family: str, shape: tuple[int, ...]) -> None:
    layer = FAMILIES[family](8)
    z_e = vectors(*shape).requires_grad_()
    out, expected = layer(z_e), VectorQuantizer(16, 8)(z_e)
    (out.z_q.sum() + out.loss).backward()
    assert (out.z_q.shape, out.indices.shape, out.loss.shape) == (z_e.shape, expected.indices.shape, ())
    assert out.stats.keys() == expected.stats.keys()
    assert all(value.isfinite() and value.shape == () and not value.requires_grad for value in out.stats.values())
    assert torch.equal(layer.decode(out.indices), out.z_q)
    assert layer.bypass(z_e).shape == z_e.shape
    assert z_e.grad.isfinite().all()


@each_family
def test_statistics_are_those_of_the_definition(family: str) -> None:
    layer = layer_of(family, projected=False)
    z = vectors(100, CODE_DIMS[family])
    out, e = layer(z), layer.bypass(z)
    counts = out.indices.bincount(minlength=layer.num_codes)
    expected = {
        "perplexity": perplexity(counts),
        "utilisation": (counts > 0).float().mean(),
        "dead_codes": (counts == 0).sum().float(),
        "relative_error": ((e - out.z_q).square().sum(dim=1) / e.square().sum(dim=1)).mean(),
        "z_e_norm": e.norm(dim=1).mean(),
        "code_norm": out.z_q.norm(dim=1).mean(),
    }
    for name, value in expected.items():
        torch.testing.assert_close(out.stats[name], value, msg=name)


@each_family
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_every_dtype_and_layout_of_module_and_input_trains(
    family: str, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    for module_dtype in {torch.float32, dtype}:
        layer = FAMILIES[family](8, transport="rotation").to(module_dtype)
        z_e = vectors(2, 8, 4, 5).to(dtype).contiguous(memory_format=layout).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = layer(z_e)
        (out.z_q.square().mean() + out.loss.to(dtype)).backward()
        assert (out.z_q.dtype, z_e.grad.dtype) == (dtype, dtype)
        assert out.z_q.is_contiguous(memory_format=layout)
        assert z_e.grad.isfinite().all()
        assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters())
        if module_dtype != torch.float32 or dtype == torch.float32:
            assert torch.equal(layer.decode(out.indices).to(dtype), out.z_q)


@each_family
@pytest.mark.parametrize("projected", [True, False])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_vectors_that_are_masked_or_not_finite_leave_no_trace(family: str, projected: bool, bad: float) -> None:
    layer, clean = layer_of(family, projected=projected), layer_of(family, projected=projected)
    x = vectors(40, layer.dim)
    spoiled = x.clone()
    spoiled[[3, 25, 38]] = bad
    spoiled.requires_grad_()
    mask = torch.arange(40) < 30
    kept = torch.tensor([row for row in range(30) if row not in (3, 25)])
    rows = x[kept].requires_grad_()
    out, expected = layer(spoiled, mask=mask), clean(rows)
    assert out.stats["non_finite"] == 2
    for name in expected.stats.keys() - {"non_finite"}:
        torch.testing.assert_close(out.stats[name], expected.stats[name], msg=name)
    torch.testing.assert_close(out.loss, expected.loss)
    (out.z_q[kept].pow(3).sum() + out.loss).backward()
    (expected.z_q.pow(3).sum() + expected.loss).backward()
    torch.testing.assert_close(spoiled.grad[kept], rows.grad)
    assert (spoiled.grad[[3, 25, *range(30, 40)]] == 0).all()
    for one, two in zip(layer.parameters(), clean.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad)
    assert (out.indices[30:] == -1).all()
    assert (out.z_q[30:] == 0).all()
    assert (layer.decode(out.indices)[30:] == 0).all()
    assert "vectors per used code" in out._repr_html_()


@each_family
def test_a_batch_without_a_vector_that_counts_has_the_loss_0(family: str) -> None:
    layer = layer_of(family)
    for z_e in (torch.zeros(0, 8), torch.full((4, 8), float("nan"))):
        out = layer(z_e.requires_grad_())
        assert out.loss == 0
        assert out.stats["perplexity"] == 1
        assert out.stats["dead_codes"] == layer.num_codes


def test_bsq_of_a_vector_of_zeros_has_a_bounded_gradient() -> None:
    layer = BinarySphericalQuantizer(5, 5, channel_dim=-1)
    z = torch.zeros(3, 5, requires_grad=True)
    out = layer(z)
    (out.z_q.sum() + out.loss).backward()
    assert (out.indices == 0).all()
    assert z.grad.abs().max() < 10


@each_family
def test_second_derivatives_are_those_of_finite_differences(family: str) -> None:
    # Close to no threshold, so that a small step changes no code.
    layer = layer_of(family, projected=False)
    z = torch.tensor([[0.3, -0.4, 0.9, 0.7, -0.8][: CODE_DIMS[family]]], dtype=torch.float64)
    g = vectors(*z.shape, seed=1).double()

    def gradient(point: Tensor, weight: Tensor) -> Tensor:
        out = layer(point)
        return torch.autograd.grad((out.z_q * weight).sum() + out.loss, point, create_graph=True)[0]

    assert torch.autograd.gradcheck(lambda weight: gradient(z.clone().requires_grad_(), weight), g.requires_grad_())


@each_family
@pytest.mark.parametrize("kind", ["straight_through", "rotation", "dynamic"])
def test_a_step_reads_no_value_of_the_device(family: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "reads_are_free", lambda tensor: False)
    assert not hasattr(fixed_codes, "reads_are_free")
    layer = layer_of(family, transport=kind)
    with no_wait_for_the_device():
        for mask in (None, torch.arange(256) < 200):
            out = layer(vectors(256, 8).requires_grad_(), mask=mask)
            (out.z_q.sum() + out.loss).backward()


@each_family
def test_a_layer_is_copied_saved_loaded_and_created_without_memory(family: str) -> None:
    layer = layer_of(family)
    x = vectors(50, 8)
    out = layer(x.requires_grad_())
    copied = copy.deepcopy(layer)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    with torch.device("meta"):
        bare = FAMILIES[family](8, channel_dim=-1)
    bare.to_empty(device="cpu").load_state_dict(layer.state_dict())
    for other in (copied, torch.load(file, weights_only=False), bare):
        assert torch.equal(other(x).z_q, out.z_q)
        assert torch.equal(other(x).indices, out.indices)


def test_the_state_of_other_levels_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"levels|radices"):
        FiniteScalarQuantizer([8, 5], 2).load_state_dict(FiniteScalarQuantizer([5, 8], 2).state_dict())


@each_family
def test_the_text_of_a_layer_names_its_arguments(family: str) -> None:
    layer = layer_of(family, transport="rotation")
    same = eval(f"{type(layer).__name__}({layer.extra_repr()})")
    assert same.extra_repr() == layer.extra_repr()
    assert "transport='rotation'" in repr(layer)
    assert "channel_dim=-1" in repr(layer)
    assert "bits of a vector" in layer._repr_html_()


def test_a_step_at_18_bits_holds_no_table() -> None:
    layer = BinarySphericalQuantizer(18, 64, channel_dim=-1, group_bits=9)
    z_e = vectors(8192, 64).requires_grad_()
    with torch.profiler.profile(profile_memory=True) as profile:
        out = layer(z_e)
        (out.z_q.sum() + out.loss).backward()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    print(f"BSQ, 18 bits, N = 8192: {peak / 2**20:.0f} MiB")
    # The probabilities of all codes would take 8 GiB.
    assert peak < 200e6, f"{peak / 2**20:.0f} MiB"


@pytest.mark.parametrize(
    ("family", "words"),
    [
        pytest.param("trained", ["compiled"], marks=pytest.mark.slow),
        ("scalars", ["compiled", "exported", "onnx"]),
        pytest.param("bits", ["compiled", "exported", "onnx"] * 2, marks=pytest.mark.slow),  # half a minute
    ],
)
def test_compiled_and_exported_layers_work_as_the_layer(family: str, words: list[str]) -> None:
    done = run_program("import sys, compiled_fixed_codes; compiled_fixed_codes.main(sys.argv[1])", family)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line for line in done.stdout.splitlines() if line in ("compiled", "exported", "onnx")] == words


# SimVQ, and what all quantizers have.


def test_simvq_agrees_with_vector_quantize_pytorch() -> None:
    peer_module = pytest.importorskip("vector_quantize_pytorch")
    torch.manual_seed(0)
    peer = peer_module.SimVQ(dim=6, codebook_size=32, rotation_trick=False)
    layer = SimVQ(32, 6, channel_dim=-1)
    layer.set_codes(peer.frozen_codebook)
    layer.codes_from = copy.deepcopy(peer.code_transform)
    z, other = (vectors(2, 100, 6).requires_grad_() for _ in range(2))
    z_q, indices, loss = peer(z)
    out = layer(other)
    assert torch.equal(out.indices, indices)
    torch.testing.assert_close(out.z_q, z_q)
    torch.testing.assert_close(out.loss, loss)
    (z_q.pow(3).mean() + loss).backward()
    (out.z_q.pow(3).mean() + out.loss).backward()
    torch.testing.assert_close(other.grad, z.grad, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(layer.codes_from.weight.grad, peer.code_transform.weight.grad, rtol=1e-5, atol=1e-6)


def test_the_fixed_codes_of_simvq_have_the_variance_of_its_paper_and_never_change() -> None:
    layer = SimVQ(4096, 32, channel_dim=-1)
    fixed = layer.book.codes.clone()
    assert fixed.var().item() == pytest.approx(1 / 32, rel=0.02)
    nn.Sequential(layer).requires_grad_(True)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    before = layer.codebook.detach().clone()
    for seed in range(3):
        out = layer(vectors(200, 32, seed=seed))
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
    assert torch.equal(layer.book.codes, fixed)
    # Codes that no vector has move too.
    assert (layer.codebook != before).any(dim=1).all()
    layer.freeze()
    assert not any(parameter.requires_grad for parameter in layer.parameters())
    layer.requires_grad_(True)
    assert layer.codes_from.weight.requires_grad


def test_the_text_of_simvq_names_its_own_arguments() -> None:
    layer = SimVQ(16, 8, code_dim=4, beta=0.5)
    assert layer.extra_repr() == "num_codes=16, dim=8, transport='straight_through', code_dim=4, beta=0.5"
    out = layer.eval()(vectors(2, 8, 4, 4))
    assert torch.equal(layer.decode(out.indices), out.z_q)


def test_bits_and_codes_of_learned_tables() -> None:
    assert (VectorQuantizer(512, 8).bits, VectorQuantizer(512, 8).codes_per_vector) == (9, 1)
    heads = MultiHeadQuantizer(16, 8, 4)
    assert (heads.bits, heads.codes_per_vector) == (16, 4)
    assert SimVQ(1024, 8).bits == 10


@pytest.mark.parametrize("code_dim", [None, 3])
def test_several_heads_can_be_bypassed(code_dim: int | None) -> None:
    layer = MultiHeadQuantizer(16, 8, 2, code_dim=code_dim)
    z_e = vectors(2, 8, 4, 5).contiguous(memory_format=torch.channels_last)
    z = layer.bypass(z_e)
    expected = layer.project_out(layer.project_in(z_e.movedim(1, -1))).movedim(-1, 1)
    torch.testing.assert_close(z, expected)
    assert z.is_contiguous(memory_format=torch.channels_last)


def test_the_rules_that_are_tested_include_one_by_code() -> None:
    assert set(BACKWARD) - set(rowwise_transport_names()) == {"dynamic"}
