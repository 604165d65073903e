"""What holds for every family of quantizers, every transport and every dtype: one list of contract tests."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor

from vqlab import InputError, ResidualQuantizer, VectorQuantizer
from vqlab.quantize import (
    BinarySphericalQuantizer,
    FiniteScalarQuantizer,
    LookupFreeQuantizer,
    MultiHeadQuantizer,
    Quantizer,
    SimVQ,
    get_transport,
    transport_names,
)

DIM = 8
Build = Callable[..., Quantizer]
FAMILIES: dict[str, Build] = {
    "nearest": lambda **options: VectorQuantizer(16, DIM, **options),
    "projected": lambda **options: VectorQuantizer(16, DIM, code_dim=4, **options),
    "heads": lambda **options: MultiHeadQuantizer(16, DIM, 2, **options),
    "residual": lambda **options: ResidualQuantizer(16, DIM, 3, **options),
    "residual, shared": lambda **options: ResidualQuantizer(16, DIM, 3, shared=True, code_dim=4, **options),
    "residual, joint": lambda **options: ResidualQuantizer(16, DIM, 2, joint=True, **options),
    "residual, beam": lambda **options: ResidualQuantizer(16, DIM, 2, beam=3, **options),
    "residual of heads": lambda **options: MultiHeadQuantizer(16, DIM, 2, levels=2, **options),
    "FSQ": lambda **options: FiniteScalarQuantizer([5, 4, 3], DIM, **options),
    "LFQ": lambda **options: LookupFreeQuantizer(6, DIM, **options),
    "BSQ": lambda **options: BinarySphericalQuantizer(8, DIM, **options),
    "SimVQ": lambda **options: SimVQ(16, DIM, **options),
}
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
# Families whose codes cannot follow a training-time value, and rules that need the code of a single vector.
FIXED_OR_RESIDUAL = [name for name in FAMILIES if name.startswith(("residual", "FSQ", "LFQ", "BSQ"))]
each_family = pytest.mark.parametrize("family", FAMILIES)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def vectors(seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(6, DIM, 5, 4, generator=torch.Generator().manual_seed(seed)).to(dtype)


def is_refused(family: str, transport: str) -> bool:
    entry = get_transport(transport)
    if entry.backward is None:
        return family in FIXED_OR_RESIDUAL
    return entry.by_code and family == "residual, joint"


PAIRS = [(family, name) for family in FAMILIES for name in transport_names()]
REFUSED = [pair for pair in PAIRS if is_refused(*pair)]
each_pair = pytest.mark.parametrize(("family", "transport"), [pair for pair in PAIRS if pair not in REFUSED])


def filled(family: str, transport: str = "rotation") -> Quantizer:
    """A layer whose codes come from vectors, in training mode."""
    return copy.deepcopy(_filled(family, transport))


@cache
def _filled(family: str, transport: str) -> Quantizer:
    torch.manual_seed(0)
    layer = FAMILIES[family](transport=transport)
    layer(vectors(0))
    return layer


@pytest.mark.parametrize(("family", "transport"), REFUSED)
def test_a_senseless_pair_is_refused_with_the_reason(family: str, transport: str) -> None:
    with pytest.raises(InputError, match=f"transport='{transport}'"):
        FAMILIES[family](transport=transport)


@each_pair
def test_a_pair_trains(family: str, transport: str) -> None:
    layer = filled(family, transport)
    z_e = vectors(1).requires_grad_()
    out = layer(z_e)
    (out.z_q.pow(2).sum() + out.loss).backward()
    assert z_e.grad.isfinite().all()
    assert z_e.grad.abs().sum() > 0
    assert out.loss.shape == ()
    assert all(value.shape == () and value.isfinite() for value in out.stats.values())


@each_pair
@each_dtype
def test_output_and_gradient_have_the_dtype_of_the_input(family: str, transport: str, dtype: torch.dtype) -> None:
    layer = filled(family, transport).eval()
    z_e = vectors(1, dtype).requires_grad_()
    out = layer(z_e)
    out.z_q.float().pow(2).sum().backward()
    assert (out.z_q.dtype, z_e.grad.dtype, out.indices.dtype) == (dtype, dtype, torch.int64)
    assert out.z_q.shape == z_e.shape
    places = () if layer.codes_per_vector == 1 else (layer.codes_per_vector,)
    assert out.indices.shape == (6, 5, 4, *places)
    assert 0 <= int(out.indices.min()) <= int(out.indices.max()) < layer.num_codes
    decoded = layer.decode(out.indices).to(dtype)
    # Vectors in float64 are projected and summed in float64, codes that are decoded in the dtype of the codebook.
    tolerance = 1e-5 if dtype == torch.float64 else 0
    torch.testing.assert_close(decoded, out.z_q, atol=tolerance, rtol=tolerance)
    assert z_e.grad.isfinite().all()
    # The codes do not depend on how the gradient passes.
    plain = filled(family, "straight_through").eval()
    plain.load_state_dict(layer.state_dict())
    assert torch.equal(plain(z_e.detach()).indices, out.indices)


@each_family
@each_dtype
def test_a_layer_in_another_dtype_has_the_codes_of_float64(family: str, dtype: torch.dtype) -> None:
    """Of the same rounded vectors: only arithmetic differs, and few vectors lie between two codes."""
    layer = filled(family).eval()
    z_e = vectors(2, dtype)
    wide = filled(family).eval().double()
    same = (layer(z_e).indices == wide(z_e.double()).indices).float().mean()
    assert same > 0.98


@each_pair
def test_padding_changes_nothing_else(family: str, transport: str) -> None:
    layer = filled(family, transport).eval()
    mask = torch.rand(6, 5, 4, generator=torch.Generator().manual_seed(1)) > 0.3
    z_e, padded = vectors(1).requires_grad_(), vectors(1)
    padded.movedim(1, -1)[~mask] = torch.nan
    padded.requires_grad_()
    out, masked = layer(z_e), layer(padded, mask=mask)
    kept = out.z_q.movedim(1, -1)[mask]
    assert torch.equal(masked.z_q.movedim(1, -1)[mask], kept)
    assert torch.equal(masked.indices[mask], out.indices[mask])
    assert (masked.indices[~mask] == -1).all()
    assert not masked.z_q.movedim(1, -1)[~mask].any()
    masked.z_q.sum().backward()
    assert padded.grad.isfinite().all()
    assert not padded.grad.movedim(1, -1)[~mask].any()
    assert torch.equal(layer.decode(masked.indices), masked.z_q)


@each_family
def test_eval_mode_changes_nothing_and_repeats_itself(family: str) -> None:
    layer = filled(family).eval()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    first, second = layer(vectors(3)), layer(vectors(3))
    assert torch.equal(first.z_q, second.z_q)
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())


@each_family
def test_every_family_has_the_statistics_and_bits_of_the_contract(family: str) -> None:
    layer = filled(family)
    assert set(layer(vectors(1)).stats) == set(filled("nearest")(vectors(1)).stats)
    assert layer.bits == pytest.approx(layer.codes_per_vector * torch.tensor(float(layer.num_codes)).log2().item())
    assert layer.codebooks.shape[1] == layer.num_codes
