"""Gradient transports: a contract that every registered transport passes, and what is special to each.

``TRANSPORTS`` is the one list: a transport that is registered in the package runs through all tests that take the
fixture ``kind``. ``REFERENCES`` holds the written-out float64 gradient of one row for each of them.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import vqlab
from vqlab.errors import InputError
from vqlab.quantize import (
    VectorQuantizer,
    get_transport,
    register_backward,
    register_forward,
    transport_gradient,
    transport_names,
    transports,
)

TRANSPORTS = transport_names()
ROTATIONS = ("rotation", "rodrigues")
FORWARD = tuple(name for name in TRANSPORTS if get_transport(name).forward is not None)
DTYPES = (torch.float64, torch.float32, torch.bfloat16)


def rows(seed: int, count: int = 32, dim: int = 8, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Random g, e, q and noise, (count, dim) each."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, dim, generator=generator, dtype=torch.float64).to(dtype) for _ in range(4)]


# Transports that the tests register themselves, one of each kind.


def half(g: Tensor, e: Tensor, q: Tensor) -> Tensor:
    return g / 2


def midpoint(e: Tensor, q: Tensor, noise: Tensor) -> Tensor:
    return (e + q) / 2


EXAMPLES: dict[str, Callable[[str], object]] = {
    "example_backward": lambda name: register_backward(name, source="a test")(half),
    "example_forward": lambda name: register_forward(name, source="a test")(midpoint),
}


@pytest.fixture(params=[*TRANSPORTS, *EXAMPLES])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of each transport in turn; examples are registered in a copy of the registry."""
    monkeypatch.setattr(transports, "_REGISTRY", dict(transports._REGISTRY))
    if request.param in EXAMPLES:
        EXAMPLES[request.param](request.param)
    return request.param


# The gradient of one row in float64, each from its definition and not from the formula of the implementation.


def rotation_matrix(e: Tensor, q: Tensor) -> Tensor:
    """Rotation from e to q as the matrix exponential of its generator, the angle times the plane."""
    e_unit, q_unit = e / e.norm(), q / q.norm()
    orthogonal = q_unit - (e_unit @ q_unit) * e_unit
    angle = torch.atan2(orthogonal.norm(), e_unit @ q_unit)
    orthogonal = orthogonal / orthogonal.norm()
    return torch.matrix_exp(angle * (torch.outer(orthogonal, e_unit) - torch.outer(e_unit, orthogonal)))


def householder_matrix(e: Tensor, q: Tensor) -> Tensor:
    """R = I − 2rrᵀ + 2q̂êᵀ of DESIGN §3."""
    e_unit, q_unit = e / e.norm(), q / q.norm()
    r = (e_unit + q_unit) / (e_unit + q_unit).norm()
    return torch.eye(len(e), dtype=e.dtype) - 2 * torch.outer(r, r) + 2 * torch.outer(q_unit, e_unit)


def rotated(g: Tensor, e: Tensor, q: Tensor, noise: Tensor) -> Tensor:
    return q.norm() / e.norm() * rotation_matrix(e, q).T @ g


def reflected(g: Tensor, e: Tensor, q: Tensor, noise: Tensor) -> Tensor:
    normal = e / e.norm() - q / q.norm()
    matrix = torch.eye(len(e), dtype=e.dtype) - 2 * torch.outer(normal, normal) / (normal @ normal)
    return q.norm() / e.norm() * matrix.T @ g


def reparameterized(g: Tensor, e: Tensor, q: Tensor, direction: Tensor) -> Tensor:
    """Jacobian of e + ‖q−e‖ d̂ with d̂ constant: I − d̂ (q−e)ᵀ/‖q−e‖."""
    jacobian = torch.eye(len(e), dtype=e.dtype) - torch.outer(direction / direction.norm(), (q - e) / (q - e).norm())
    return jacobian.T @ g


REFERENCES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "straight_through": lambda g, e, q, noise: g,
    "rotation": rotated,
    "rodrigues": rotated,
    "rotation_unscaled": lambda g, e, q, noise: rotation_matrix(e, q).T @ g,
    "rotation_inverse_distance": lambda g, e, q, noise: (
        rotation_matrix(e, q).T @ g / (8 * torch.linalg.vector_norm(q - e) ** 2)
    ),
    # A row alone is the nearest to its code.
    "dynamic": lambda g, e, q, noise: g,
    "rescale": lambda g, e, q, noise: q.norm() / e.norm() * g,
    "reflection": reflected,
    "nsvq": reparameterized,
    "diveq": lambda g, e, q, noise: reparameterized(g, e, q, q - e + 1e-3**0.5 * noise),
    "diveq_released": lambda g, e, q, noise: reparameterized(g, e, q, q - e + 1e-3 * noise),
    "diveq_detach": lambda g, e, q, noise: reparameterized(g, e, q, q - e),
    "example_backward": lambda g, e, q, noise: g / 2,
    "example_forward": lambda g, e, q, noise: g / 2,
}


def test_every_transport_has_a_reference() -> None:
    assert set(REFERENCES) == {*TRANSPORTS, *EXAMPLES}


# The contract.


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-4), (torch.bfloat16, 0.01)]
)
def test_the_gradient_is_that_of_the_definition(kind: str, dtype: torch.dtype, tolerance: float) -> None:
    inputs = rows(1, dtype=dtype)
    g, e, q, noise = inputs
    expected = torch.stack(
        [REFERENCES[kind](*row) for row in zip(*(tensor.double() for tensor in inputs), strict=True)]
    )
    gradient = transport_gradient(g, e, q, kind, noise)
    assert (gradient.dtype, gradient.shape) == (dtype, g.shape)
    torch.testing.assert_close(gradient.double(), expected, rtol=tolerance, atol=tolerance)


def test_the_gradient_of_many_vectors_is_that_of_the_definition(kind: str) -> None:
    g, e, q, noise = rows(1, count=8_200, dim=64, dtype=torch.float32)
    # Undefined for a rotation, for a reflection, and nearly undefined.
    e[0], e[1], e[2] = -q[0], 2 * q[1], -q[2] + 0.05 * g[2]
    gradient = transport_gradient(g, e, q, kind, noise)
    for row in (*range(4), 4_095, 4_096, 8_191, 8_192, 8_199):
        of_one = transport_gradient(
            *(tensor[row : row + 1].double() for tensor in (g, e, q)), kind, noise[[row]].double()
        )
        torch.testing.assert_close(gradient[[row]].double(), of_one, rtol=2e-4, atol=2e-4)


# Factors of e and of q: very different lengths, and both huge or small.
SCALES = ((1, 1e-3), (1e-3, 1), (1, 1e-7), (1e-7, 1), (1, 1e15), (1e15, 1), (1e15, 1e15), (1e-9, 1e-9), (1, 0), (0, 1))


def test_a_hard_row_among_many_has_the_gradient_that_it_has_alone(kind: str) -> None:
    g, e, q, noise = rows(2, count=8_200, dim=64, dtype=torch.float32)
    for row, (of_e, of_q) in enumerate(SCALES):
        e[row], q[row] = of_e * e[row], of_q * q[row]
    e[20], e[21], e[22], e[23] = q[20], -q[21], 1.05 * q[22] + 0.01 * g[22], -0.7 * q[23] + 0.2 * g[23]
    gradient = transport_gradient(g, e, q, kind, noise)
    for row in (*range(len(SCALES)), *range(20, 24)):
        of_one = transport_gradient(*(tensor[[row]] for tensor in (g, e, q)), kind, noise[[row]])
        size = float(of_one.abs().max())
        torch.testing.assert_close(gradient[[row]], of_one, rtol=2e-4, atol=2e-4 * size, msg=f"row {row}")


@pytest.mark.parametrize("dtype", DTYPES)
def test_backward_has_the_gradient_of_transport_gradient(kind: str, dtype: torch.dtype) -> None:
    g, e, q, noise = rows(2, dtype=dtype)
    leaf = e.clone().requires_grad_()
    vqlab.transport(leaf, q, kind, noise).backward(g)
    assert (leaf.grad.dtype, leaf.grad.shape) == (dtype, e.shape)
    if get_transport(kind).forward is not None and dtype == torch.bfloat16:
        # Autograd differentiates a training-time value in the input's dtype, transport_gradient in float32.
        torch.testing.assert_close(leaf.grad, transport_gradient(g, e, q, kind, noise), rtol=0.05, atol=0.05)
    else:
        torch.testing.assert_close(leaf.grad, transport_gradient(g, e, q, kind, noise))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_value_is_the_code_bit_for_bit(kind: str, dtype: torch.dtype) -> None:
    _, e, q, noise = rows(3, dtype=dtype)
    value = vqlab.transport(e, q, kind, noise)
    assert (value.dtype, value.shape) == (dtype, q.shape)
    # A training-time value differs from the code by definition; its value in eval mode is tested with the layer.
    assert torch.equal(value, q) == (get_transport(kind).forward is None)


def test_the_layer_returns_codes_in_eval_mode(kind: str) -> None:
    layer = VectorQuantizer(16, 8, transport=kind, init="normal").eval()
    out = layer(rows(4, dtype=torch.float32)[0].reshape(2, 8, 4, 4))
    assert torch.equal(out.z_q, layer.codebook[out.indices].movedim(-1, 1))
    assert torch.equal(out.z_q, layer.decode(out.indices))


def test_the_layer_gives_images_the_gradient_of_their_rows(kind: str) -> None:
    layer = VectorQuantizer(16, 8, transport=kind, init="normal", restart_every=0)
    g, z_e, *_ = (tensor.reshape(2, 8, 4, 4) for tensor in rows(5, dtype=torch.float32))
    codes, noise = layer.codebook.clone(), torch.randn(32, 8, generator=layer.book.step_generator(z_e.device))
    out = layer(z_e.requires_grad_())
    out.z_q.backward(g)
    g_rows, e_rows = (tensor.detach().movedim(1, -1).reshape(-1, 8) for tensor in (g, z_e))
    expected = transport_gradient(g_rows, e_rows, codes[out.indices.flatten()], kind, noise)
    torch.testing.assert_close(z_e.grad.movedim(1, -1).reshape(-1, 8), expected)


@pytest.mark.parametrize("count", [20, 8_200])
@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_the_layer_adds_the_gradients_of_output_and_loss(kind: str, count: int, fraction: float) -> None:
    if fraction < 1 and get_transport(kind).backward is None:
        pytest.skip("a training-time value has no fraction")
    layer = VectorQuantizer(
        16, 64, channel_dim=-1, transport=kind, transport_fraction=fraction, init="normal", beta=2.0
    )
    z_e, g = rows(3, count=count, dim=64, dtype=torch.float32)[:2]
    z_e[0] = -layer.codebook[0]

    def gradient(weights: tuple[float, float]) -> Tensor:
        leaf = z_e.clone().requires_grad_()
        out = layer(leaf, update=False)
        ((weights[0] * g * out.z_q).sum() + weights[1] * out.loss).backward()
        return leaf.grad

    of_output, of_loss, of_both = (gradient(weights) for weights in ((1, 0), (0, 1000), (1, 1000)))
    codes = layer.codebook[layer(z_e, update=False).indices]
    torch.testing.assert_close(of_loss, 1000 * layer.beta * 2 * (z_e - codes) / z_e.numel(), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(of_both, of_output + of_loss, rtol=1e-4, atol=1e-5)


def degenerate_rows(dtype: torch.dtype) -> dict[str, tuple[Tensor, Tensor]]:
    q = torch.tensor([1.0, 2.0, -1.0, 0.5], dtype=dtype)
    other = torch.tensor([0.5, -1.0, 2.0, 1.0], dtype=dtype)
    zero = torch.zeros_like(q)
    return {
        "e = q": (q, q),
        "e = −q": (-q, q),
        "e nearly −q": (-q + torch.tensor([0, 0, 0, 1e-3], dtype=dtype), q),
        "e parallel to q": (3 * q, q),
        "e = 0": (zero, q),
        "q = 0": (q, zero),
        "e = q = 0": (zero, zero),
        "huge": (1e15 * other, 1e15 * q),
        "huge e": (1e15 * other, q),
        "huge q": (other, 1e15 * q),
        "tiny": (1e-30 * other, 1e-30 * q),
        "tiny e": (1e-30 * other, q),
        "small e": (1e-9 * other, q),
        "tiny q": (other, 1e-30 * q),
    }


@pytest.mark.parametrize("dtype", DTYPES)
def test_degenerate_rows_have_finite_values_and_gradients(kind: str, dtype: torch.dtype) -> None:
    for name, (e, q) in degenerate_rows(dtype).items():
        leaf = e[None].clone().requires_grad_()
        value = vqlab.transport(leaf, q[None], kind)
        value.sum().backward()
        assert torch.isfinite(value).all(), name
        assert torch.isfinite(leaf.grad).all(), name


def test_the_gradient_is_linear_in_g(kind: str) -> None:
    g, e, q, noise = rows(6)
    other = rows(7)[0]
    combined = transport_gradient(2.5 * g - 1.5 * other, e, q, kind, noise)
    separate = 2.5 * transport_gradient(g, e, q, kind, noise) - 1.5 * transport_gradient(other, e, q, kind, noise)
    torch.testing.assert_close(combined, separate, rtol=1e-11, atol=1e-11)
    assert not transport_gradient(torch.zeros_like(g), e, q, kind, noise).any()


def test_a_row_does_not_depend_on_other_rows(kind: str) -> None:
    inputs = rows(8)
    g, e, q, noise = inputs
    together = transport_gradient(g, e, q, kind, noise)
    separate = torch.cat(
        [transport_gradient(g[i : i + 1], e[i : i + 1], q[i : i + 1], kind, noise[i : i + 1]) for i in range(len(g))]
    )
    torch.testing.assert_close(together, separate, rtol=1e-13, atol=1e-13)
    invalid = [tensor.clone() for tensor in inputs[:3]]
    for tensor in invalid:
        tensor[::2] = torch.nan
    torch.testing.assert_close(transport_gradient(*invalid, kind, noise)[1::2], together[1::2], rtol=1e-13, atol=1e-13)


def test_a_batch_without_rows_gives_an_empty_result(kind: str) -> None:
    g, e, q, noise = rows(9, count=0)
    assert transport_gradient(g, e, q, kind, noise).shape == (0, 8)
    leaf = e.clone().requires_grad_()
    value = vqlab.transport(leaf, q, kind)
    value.sum().backward()
    assert value.shape == leaf.grad.shape == (0, 8)
    layer = VectorQuantizer(16, 8, transport=kind, channel_dim=-1)
    assert layer(leaf.float()).z_q.shape == (0, 8)


def test_two_calls_give_the_same_result(kind: str) -> None:
    g, e, q, _ = rows(10)
    assert torch.equal(vqlab.transport(e, q, kind), vqlab.transport(e, q, kind))
    assert torch.equal(transport_gradient(g, e, q, kind), transport_gradient(g, e, q, kind))


def test_autocast_does_not_lower_the_precision(kind: str) -> None:
    g, e, q, noise = rows(11, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        leaf = e.clone().requires_grad_()
        vqlab.transport(leaf, q, kind, noise).backward(g)
    torch.testing.assert_close(leaf.grad, transport_gradient(g, e, q, kind, noise))


def test_inputs_are_not_changed(kind: str) -> None:
    inputs = rows(12)
    copies = [tensor.clone() for tensor in inputs]
    g, e, q, noise = inputs
    transport_gradient(g, e, q, kind, noise)
    vqlab.transport(e, q, kind, noise)
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(inputs, copies, strict=True))
    assert not any(tensor.requires_grad for tensor in inputs)


# The registry.


def test_a_registered_example_is_a_value_of_the_axis(kind: str) -> None:
    assert kind in transport_names()
    assert get_transport(kind).name == kind
    assert get_transport(kind).source
    assert (get_transport(kind).backward is None) != (get_transport(kind).forward is None)
    assert VectorQuantizer(4, 4, transport=kind).transport == kind


def test_the_examples_are_removed_after_their_test() -> None:
    assert transport_names() == TRANSPORTS


def test_an_unknown_transport_is_refused_with_the_names() -> None:
    with pytest.raises(vqlab.InputError, match="transport='spin': must be one of straight_through, rotation"):
        vqlab.transport(torch.ones(1, 2), torch.ones(1, 2), "spin")


@pytest.mark.wrong_types
@pytest.mark.parametrize("shapes", [((2, 3), (3, 3)), ((2, 3, 4), (2, 3, 4)), ((3,), (3,))])
def test_other_shapes_than_rows_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(vqlab.InputError, match=r"must both be \(N, D\)"):
        vqlab.transport(torch.ones(shapes[0]), torch.ones(shapes[1]))


# Backward rules.


@pytest.mark.parametrize("kind", ROTATIONS)
def test_backward_is_autograd_of_the_matrix(kind: str) -> None:
    g, e, q, _ = rows(21)
    leaf = e.clone().requires_grad_()
    vqlab.transport(leaf, q, kind).backward(g)
    for i in range(len(e)):
        scaled = (q[i].norm() / e[i].norm()) * householder_matrix(e[i], q[i])
        reference = e[i].clone().requires_grad_()
        (scaled @ reference).backward(g[i])
        torch.testing.assert_close(scaled @ e[i], q[i], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(leaf.grad[i], reference.grad, rtol=1e-11, atol=1e-11)


def test_the_rotation_has_determinant_1_and_the_reflection_minus_1() -> None:
    _, e, q, _ = rows(22, count=1)
    basis = torch.eye(8, dtype=torch.float64)
    e_units, q_units = (tensor.expand(8, 8) for tensor in (e / e.norm(), q / q.norm()))
    determinants = {
        kind: torch.linalg.det(transport_gradient(basis, e_units, q_units, kind)).item()
        for kind in ("rotation", "reflection")
    }
    assert determinants == pytest.approx({"rotation": 1, "reflection": -1}, abs=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-3)])
def test_householder_equals_rodrigues_and_differs_from_reflection(dtype: torch.dtype, tolerance: float) -> None:
    g, e, q, _ = rows(23, dtype=dtype)
    householder, rodrigues, reflection = (transport_gradient(g, e, q, kind) for kind in (*ROTATIONS, "reflection"))
    torch.testing.assert_close(householder, rodrigues, rtol=tolerance, atol=tolerance)
    assert not torch.allclose(householder, reflection, atol=0.1)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), dim=st.integers(2, 64), scale=st.floats(1e-3, 1e3))
def test_the_rotation_preserves_angles_and_the_scalar_product(seed: int, dim: int, scale: float) -> None:
    g, e, q, _ = rows(seed, dim=dim)
    e = e * scale
    # In the plane a random pair is sometimes nearly opposite, where the gradient is straight-through.
    unique = ~get_transport("rotation").undefined(e, q)
    g, e, q = g[unique], e[unique], q[unique]
    gradient = transport_gradient(g, e, q, "rotation")
    cosine = torch.nn.functional.cosine_similarity
    torch.testing.assert_close(cosine(gradient, e), cosine(g, q), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close((gradient * e).sum(1), (g * q).sum(1), rtol=1e-6, atol=1e-6)


def test_rows_without_a_unique_rotation_get_straight_through() -> None:
    q = torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    e = torch.tensor([[-1.0, -2.0], [0.0, 0.0]])
    g = torch.tensor([[3.0, 4.0], [5.0, 6.0]])
    assert torch.equal(transport_gradient(g, e, q, "rotation"), g)


def test_dynamic_straight_through_weighs_the_vectors_of_a_code_by_their_distance() -> None:
    g, e, codes, _ = rows(3, 40)
    indices = torch.randint(0, 6, (40,), generator=torch.Generator().manual_seed(0))
    q, counted = codes[indices], torch.arange(40) % 5 > 0
    e[7] = float("inf")
    counted[7] = False
    distances = ((e - q) ** 2).sum(dim=1)
    expected = g.clone()
    for row in range(40):
        others = [other for other in range(40) if counted[other] and indices[other] == indices[row]]
        if counted[row]:
            expected[row] *= min(distances[other] for other in others) / distances[row]
    groups = transports.code_groups(indices, 6, counted)
    torch.testing.assert_close(transport_gradient(g, e, q, "dynamic", groups=groups), expected)
    # Without groups, equal codes are found.
    everywhere = transports.code_groups(indices[8:], 6)
    one, other = (transport_gradient(g[8:], e[8:], q[8:], "dynamic", groups=given) for given in (everywhere, None))
    assert torch.equal(one, other)


def test_the_layer_weighs_vectors_by_code_in_dynamic_straight_through() -> None:
    layer = VectorQuantizer(8, 4, transport="dynamic", beta=0.0, channel_dim=-1, init="normal").eval()
    z_e = rows(4, 64, 4, torch.float32)[0].requires_grad_()
    mask = torch.arange(64) < 60
    layer(z_e, mask=mask).z_q.sum().backward()
    indices, distances = (value[:, 0] for value in layer.nearest(z_e.detach()))
    least = torch.stack([distances[:60][indices[:60] == code].amin() for code in indices])
    torch.testing.assert_close(z_e.grad[:, 0], torch.where(mask, (least / distances) ** 2, 0))


# Training-time values.


@pytest.mark.parametrize("kind", FORWARD)
def test_a_training_time_value_has_the_distance_of_the_code_from_e(kind: str) -> None:
    _, e, q, noise = rows(31)
    value = vqlab.transport(e, q, kind, noise)
    torch.testing.assert_close((value - e).norm(dim=1), (q - e).norm(dim=1))


@pytest.mark.parametrize("kind", FORWARD)
def test_a_training_time_value_trains_codes_that_are_parameters(kind: str) -> None:
    layer = VectorQuantizer(8, 4, channel_dim=-1, transport=kind, update="gradient", init="normal", restart_every=0)
    z_e = rows(32, dim=4, dtype=torch.float32)[0].requires_grad_()
    out = layer(z_e)
    out.z_q.square().sum().backward()
    assert not torch.equal(out.z_q, layer.decode(out.indices))
    assert layer.codebook.grad is not None
    assert layer.codebook.grad.abs().sum() > 0


def test_diveq_is_near_the_code_and_nsvq_is_not() -> None:
    _, e, q, _ = rows(33)
    assert (vqlab.transport(e, q, "diveq") - q).abs().max() < 0.2
    assert (vqlab.transport(e, q, "nsvq") - q).abs().max() > 0.5


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("name", [name for name in TRANSPORTS if name not in FORWARD and name != "reflection"])
def test_a_fraction_gives_the_gradient_of_a_code_on_the_way(name: str, fraction: float) -> None:
    g, e, q, noise = rows(11)
    way = e + fraction * (q - e)
    # At t = 0 the plane of the rotation is undefined and every rule is straight-through.
    expected = (
        g if fraction == 0 else torch.stack([REFERENCES[name](*row) for row in zip(g, e, way, noise, strict=True)])
    )
    torch.testing.assert_close(transport_gradient(g, e, q, name, fraction=fraction), expected, rtol=1e-11, atol=1e-11)
    leaf = e.clone().requires_grad_()
    value = vqlab.transport(leaf, q, name, fraction=fraction)
    value.backward(g)
    assert torch.equal(value, q)
    torch.testing.assert_close(leaf.grad, expected, rtol=1e-11, atol=1e-11)


def test_the_layer_hands_its_fraction_to_the_rule() -> None:
    g, z_e, *_ = rows(12, dtype=torch.float32)
    layer = VectorQuantizer(16, 8, transport_fraction=0.25, channel_dim=-1, init="normal", restart_every=0)
    codes = layer.codebook.clone()
    out = layer(z_e.requires_grad_())
    out.z_q.backward(g)
    expected = transport_gradient(g, z_e, codes[out.indices], "rotation", fraction=0.25)
    torch.testing.assert_close(z_e.grad, expected)
    assert "transport_fraction=0.25" in repr(layer)


@pytest.mark.parametrize(
    ("name", "fraction"), [("rotation", -0.1), ("rotation", 1.1), ("rotation", float("nan")), ("nsvq", 0.5)]
)
def test_a_fraction_that_makes_no_sense_is_refused(name: str, fraction: float) -> None:
    with pytest.raises(InputError, match=f"transport_fraction={fraction}"):
        VectorQuantizer(16, 8, transport=name, transport_fraction=fraction)
