"""The proofs of DESIGN §3 for gradient transports, against written-out matrices in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vqlab
from vqlab.quantize import VectorQuantizer, get_transport, transport_gradient, transport_names

ROTATIONS = ("rotation", "rodrigues")


def rows(seed: int, n: int = 32, dim: int = 8, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, dim, generator=generator, dtype=dtype) for _ in range(3)]


def rotation_matrix(e: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    e_unit, q_unit = e / e.norm(), q / q.norm()
    r = (e_unit + q_unit) / (e_unit + q_unit).norm()
    return torch.eye(len(e), dtype=e.dtype) - 2 * torch.outer(r, r) + 2 * torch.outer(q_unit, e_unit)


RULES = tuple(name for name in transport_names() if get_transport(name).value is None)
VALUES = tuple(name for name in transport_names() if get_transport(name).value is not None)


@pytest.mark.parametrize("kind", RULES)
def test_forward_is_the_code_bit_for_bit(kind: str) -> None:
    _, e, q = rows(0, dtype=torch.float32)
    assert torch.equal(vqlab.transport(e, q, kind), q)


@pytest.mark.parametrize("kind", ROTATIONS)
def test_backward_is_autograd_of_the_written_out_map(kind: str) -> None:
    g, e, q = rows(1)
    ours = e.clone().requires_grad_()
    vqlab.transport(ours, q, kind).backward(g)
    for i in range(len(e)):
        scaled = (q[i].norm() / e[i].norm()) * rotation_matrix(e[i], q[i])
        reference = e[i].clone().requires_grad_()
        (scaled @ reference).backward(g[i])
        torch.testing.assert_close(scaled @ e[i], q[i], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(ours.grad[i], reference.grad, rtol=1e-11, atol=1e-11)


def test_the_map_is_a_rotation_and_the_reflection_is_not() -> None:
    _, e, q = rows(2, n=1)
    basis = torch.eye(8, dtype=torch.float64)
    shared = [t.expand(8, 8) for t in (e / e.norm(), q / q.norm())]
    assert torch.linalg.det(transport_gradient(basis, *shared, "rotation")).item() == pytest.approx(1, abs=1e-12)
    assert torch.linalg.det(transport_gradient(basis, *shared, "reflection")).item() == pytest.approx(-1, abs=1e-12)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-11), (torch.float32, 1e-3)])
def test_householder_equals_rodrigues_and_differs_from_reflection(dtype: torch.dtype, bound: float) -> None:
    g, e, q = rows(3, dtype=dtype)
    householder, other, mirror = (transport_gradient(g, e, q, kind) for kind in (*ROTATIONS, "reflection"))
    torch.testing.assert_close(householder, other, rtol=bound, atol=bound)
    assert not torch.allclose(householder, mirror, atol=0.1)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), dim=st.integers(2, 64), scale=st.floats(1e-3, 1e3))
def test_angles_and_the_scalar_product_are_preserved(seed: int, dim: int, scale: float) -> None:
    g, e, q = rows(seed, dim=dim)
    e = e * scale
    carried = transport_gradient(g, e, q, "rotation")
    cosine = torch.nn.functional.cosine_similarity
    torch.testing.assert_close(cosine(carried, e), cosine(g, q), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close((carried * e).sum(1), (g * q).sum(1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", transport_names())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_antipodal_zero_tiny_and_obtuse_vectors_stay_finite(kind: str, dtype: torch.dtype) -> None:
    q = torch.tensor([[1.0, 2.0, -1.0]]).expand(6, 3)
    e = torch.stack([-q[0], 0 * q[0], 1e-30 * q[0], torch.tensor([-1.0, -2.0, 1.001]), q[0], 1e-9 * q[0]]).to(dtype)
    e.requires_grad_()
    vqlab.transport(e, q.to(dtype), kind).sum().backward()
    assert torch.isfinite(e.grad).all()


def test_rows_without_a_unique_rotation_get_straight_through() -> None:
    q = torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    e = torch.tensor([[-1.0, -2.0], [0.0, 0.0]])
    g = torch.tensor([[3.0, 4.0], [5.0, 6.0]])
    assert torch.equal(transport_gradient(g, e, q, "rotation"), g)


def test_an_unknown_transport_is_refused_with_the_known_ones() -> None:
    with pytest.raises(vqlab.InputError, match="rotation, rodrigues"):
        vqlab.transport(torch.ones(1, 2), torch.ones(1, 2), "spin")


@pytest.mark.parametrize("kind", VALUES)
def test_a_training_value_lies_as_far_from_e_as_the_code_and_carries_its_written_out_gradient(kind: str) -> None:
    g, e, q = rows(7)
    noise = rows(8)[0]
    z = vqlab.transport(e, q, kind, noise)
    torch.testing.assert_close((z - e).norm(dim=1), (q - e).norm(dim=1))
    towards = (q - e) / (q - e).norm(dim=1, keepdim=True)
    along = (z - e) / (z - e).norm(dim=1, keepdim=True)
    expected = g - (along * g).sum(dim=1, keepdim=True) * towards
    torch.testing.assert_close(transport_gradient(g, e, q, kind, noise), expected)


@pytest.mark.parametrize("kind", VALUES)
def test_a_training_value_moves_learned_codes_and_is_gone_in_eval(kind: str) -> None:
    layer = VectorQuantizer(8, 4, channel_dim=-1, transport=kind, update="gradient", init="normal", restart_every=0)
    z_e = rows(9, dim=4, dtype=torch.float32)[0].requires_grad_()
    out = layer(z_e)
    out.z_q.square().sum().backward()
    assert not torch.equal(out.z_q, layer.decode(out.indices))
    assert layer.codebook.grad is not None
    assert layer.codebook.grad.abs().sum() > 0
    quiet = layer.eval()(z_e)
    assert torch.equal(quiet.z_q, layer.decode(quiet.indices))


def test_diveq_is_nearly_the_code() -> None:
    _, e, q = rows(10)
    assert (vqlab.transport(e, q, "diveq") - q).abs().max() < 0.2
    assert (vqlab.transport(e, q, "nsvq") - q).abs().max() > 0.5
