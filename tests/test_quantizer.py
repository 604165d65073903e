"""The layer: nearest codes, EMA, restarts, initialisation, shapes, invalid arguments."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from vqlab import InputError, VectorQuantizer
from vqlab.quantize import transport_names
from vqlab.quantize.search import nearest_codes


def vectors(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def state_of(layer: VectorQuantizer) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in layer.state_dict().items()}


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), codes=st.integers(1, 40), dim=st.integers(1, 12))
def test_codes_are_the_nearest_found_by_numpy(seed: int, codes: int, dim: int) -> None:
    layer = VectorQuantizer(codes, dim, init="normal", channel_dim=-1).eval()
    x = vectors(seed, 50, dim)
    out = layer(x)
    distances = ((x.numpy()[:, None].astype(np.float64) - layer.codebook.numpy()[None]) ** 2).sum(-1)
    selected = distances[np.arange(50), out.indices.numpy()]
    np.testing.assert_allclose(selected, distances.min(1), rtol=1e-4, atol=1e-5)
    assert torch.equal(out.z_q, layer.codebook[out.indices])


@pytest.mark.parametrize("offset", [0.0, 10.0, 1e3, -1e4])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_codes_far_from_the_origin_are_nearest_to_themselves(offset: float, scale: float) -> None:
    codes = scale * (vectors(0, 1024, 64) * 0.1 + offset)
    assert torch.equal(nearest_codes(codes, codes), torch.arange(1024))
    x = scale * (vectors(1, 300, 64) * 0.1 + offset)
    distances = torch.cdist(x.double(), codes.double(), compute_mode="donot_use_mm_for_euclid_dist")
    chosen = distances.gather(1, nearest_codes(x, codes)[:, None])[:, 0]
    torch.testing.assert_close(chosen, distances.min(dim=1).values, rtol=1e-4, atol=0)


def adversarial_codes(kind: str, count: int) -> torch.Tensor:
    """Codes of 16 channels whose nearest ones are hard to tell apart in float32."""
    codes = vectors(0, count, 16)
    two_clusters = torch.where(torch.arange(count)[:, None] < count // 2, 1e3, -1e3)
    return {
        "nearly equal": codes[:1] + 1e-4 * codes,
        "two far clusters": two_clusters + 1e-2 * codes,
        "huge": 1e12 * codes,
        "tiny": 1e-12 * codes,
        "huge and tiny": torch.where(torch.arange(count)[:, None] % 2 == 0, 1e6, 1e-6) * codes,
        "duplicates": codes[:16].repeat(count // 16 + 1, 1)[:count],
        "one far": torch.cat([codes[: count - 1], torch.full((1, 16), 1e5)]),
    }[kind]


@pytest.mark.parametrize(
    "kind", ["nearly equal", "two far clusters", "huge", "tiny", "huge and tiny", "duplicates", "one far"]
)
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("count", [64, 131, 192, 4205])
def test_the_search_is_exact_on_adversarial_codes(kind: str, distance: str, count: int) -> None:
    # Numbers of codes that do and do not fill a table, and one above which codes are taken by tiles.
    codes = adversarial_codes(kind, count)
    x = codes[:: max(1, count // 64)].repeat_interleave(8, dim=0)
    x = x * (1 + 1e-3 * vectors(1, len(x), 1))
    chosen = nearest_codes(x, codes, distance)
    one, other = x.double(), codes.double()
    if distance == "cosine":
        one, other = (torch.nn.functional.normalize(rows, dim=1) for rows in (one, other))
    distances = torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")
    best = distances.min(dim=1).values
    assert (distances.gather(1, chosen[:, None])[:, 0] <= best * (1 + 1e-6)).all()
    if kind == "duplicates":
        assert (chosen < 16).all()


@pytest.mark.parametrize("repeats", [4, 8, 300])
@pytest.mark.parametrize("exact", [True, False])
def test_equal_codes_are_chosen_by_the_lowest_index(repeats: int, exact: bool) -> None:
    # Small whole numbers, so that equal codes have equal products also where they are not compared in float64.
    codes, x = vectors(0, 16, 8).round(), vectors(1, 500, 8).round()
    distances = torch.cdist(x.double(), codes.double(), compute_mode="donot_use_mm_for_euclid_dist")
    assert torch.equal(nearest_codes(x, codes.repeat(repeats, 1), exact=exact), distances.argmin(dim=1))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 31, 32, 33, 512])
def test_every_vector_gets_a_code_whatever_it_holds(count: int) -> None:
    codes, x = vectors(0, count, 8), vectors(1, 40, 8)
    nearest = torch.cdist(x.double(), codes.double(), compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=1)
    x[::4, 3], x[1::4], x[2::4] = torch.nan, torch.inf, 1e30 * x[2::4]
    indices = nearest_codes(x, codes)
    assert ((indices >= 0) & (indices < count)).all()
    assert torch.equal(indices[3::4], nearest[3::4])
    assert torch.equal(indices[2::4], (x[2::4].double() @ codes.double().T).argmax(dim=1))


def test_the_search_is_in_full_float32_whatever_the_global_setting_is() -> None:
    seen = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            seen.append((func.overloadpacket.__name__, torch.get_float32_matmul_precision()))
            return func(*args, **(kwargs or {}))

    torch.set_float32_matmul_precision("medium")
    try:
        with Watch():
            nearest_codes(vectors(0, 10, 4), vectors(1, 6, 4))
        assert ("addmm", "highest") in seen
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_cosine_distance_selects_by_direction() -> None:
    layer = VectorQuantizer(9, 4, init="normal", distance="cosine", channel_dim=-1).eval()
    x = vectors(0, 30, 4)
    expected = torch.nn.functional.cosine_similarity(x[:, None], layer.codebook[None], dim=-1).argmax(1)
    assert torch.equal(layer(x).indices, expected)


@pytest.mark.parametrize("shape", [(2, 8, 4, 4), (2, 8, 5), (2, 8, 3, 2, 2)])
@pytest.mark.parametrize("code_dim", [None, 3])
def test_encode_indices_decode_round_trip(shape: tuple[int, ...], code_dim: int | None) -> None:
    layer = VectorQuantizer(16, 8, code_dim=code_dim)
    layer(vectors(1, *shape))
    out = layer.eval()(vectors(2, *shape))
    assert out.z_q.shape == shape
    assert out.indices.shape == (shape[0], *shape[2:])
    assert torch.equal(layer.decode(out.indices), out.z_q)


def test_decoder_input_takes_at_most_k_values() -> None:
    out = VectorQuantizer(5, 8)(vectors(3, 4, 8, 6, 6))
    assert len(out.z_q.movedim(1, -1).reshape(-1, 8).unique(dim=0)) <= 5


def test_eval_changes_no_buffer() -> None:
    layer = VectorQuantizer(16, 8).eval()
    before = state_of(layer)
    layer(vectors(4, 4, 8, 6, 6))
    assert all(torch.equal(value, before[key]) for key, value in state_of(layer).items())


def test_ema_follows_the_formula_of_numpy() -> None:
    layer = VectorQuantizer(6, 3, init="normal", decay=0.9, restart_every=0, channel_dim=-1)
    codes = layer.codebook.numpy().copy()
    counts, sums = np.ones(6), codes.astype(np.float64)
    x = vectors(5, 40, 3)
    one_hot = np.eye(6)[layer(x).indices.numpy()]
    counts = 0.9 * counts + 0.1 * one_hot.sum(0)
    sums = 0.9 * sums + 0.1 * one_hot.T @ x.numpy()
    smoothed = (counts + 1e-5) / (counts.sum() + 6e-5) * counts.sum()
    np.testing.assert_allclose(layer.codebook.numpy(), sums / smoothed[:, None], rtol=1e-5, atol=1e-6)


def test_restarts_reset_codes_counts_and_sums() -> None:
    layer = VectorQuantizer(8, 2, init="normal", restart_every=1, restart_share=0.5, channel_dim=-1)
    layer.book.codes[3:] += 1000
    layer.book.sums.copy_(layer.book.codes)
    layer.book.counts[3:] = 1e-4
    x = vectors(6, 64, 2)
    assert layer(x).stats["restarts"] >= 5
    book = layer.book
    assert book.codes.abs().max() < 10
    torch.testing.assert_close(book.sums[3:], book.codes[3:] * book.counts[3:, None])
    assert (book.counts[3:] > 0.1).all()


def test_restarted_codes_stay_in_use_after_the_next_step() -> None:
    layer = VectorQuantizer(64, 4, init="normal", channel_dim=-1, restart_every=1)
    for step in range(80):
        layer(vectors(step, 512, 4) * 0.1 + 5)
    assert layer(vectors(99, 512, 4) * 0.1 + 5).stats["utilisation"] > 0.9


@pytest.mark.parametrize("init", ["kmeans", "data"])
def test_initialisation_works_with_fewer_vectors_than_codes(init: str) -> None:
    layer = VectorQuantizer(50, 4, init=init, channel_dim=-1)
    x = vectors(7, 10, 4)
    out = layer(x)
    assert torch.isfinite(layer.codebook).all()
    assert (out.z_q - x).abs().max() < 0.1


def test_fallback_is_counted_and_finite_under_bf16_autocast() -> None:
    layer = VectorQuantizer(1, 2, init="normal", channel_dim=-1).eval()
    e = torch.stack([-layer.codebook[0], torch.zeros(2), layer.codebook[0]]).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(e)
        out.z_q.sum().backward()
    assert out.stats["fallback_fraction"].item() == pytest.approx(2 / 3)
    assert torch.isfinite(e.grad).all()


@pytest.mark.parametrize("hard", [True, False])
def test_gumbel_trains_the_encoder_and_the_codes(hard: bool) -> None:
    layer = VectorQuantizer(
        8, 4, assignment="gumbel", update="gradient", transport="straight_through", hard=hard, channel_dim=-1
    )
    e = vectors(8, 20, 4).requires_grad_()
    out = layer(e)
    out.z_q.square().sum().backward()
    assert e.grad.abs().sum() > 0
    assert layer.codebook.grad.abs().sum() > 0
    if hard:
        torch.testing.assert_close(out.z_q, layer.codebook[out.indices])


def test_gradient_update_follows_the_codebook_loss() -> None:
    layer = VectorQuantizer(4, 3, update="gradient", init="normal", beta=0.0, channel_dim=-1, restart_every=0)
    x = vectors(9, 30, 3)
    out = layer(x)
    out.loss.backward()
    reference = layer.codebook.detach().clone().requires_grad_()
    (reference[out.indices] - x).square().mean().backward()
    torch.testing.assert_close(layer.codebook.grad, reference.grad)


def test_beta_is_the_weight_of_the_commitment_term() -> None:
    losses = [
        VectorQuantizer(4, 3, init="normal", beta=beta, channel_dim=-1)(vectors(9, 30, 3)).loss for beta in (1.0, 0.25)
    ]
    torch.testing.assert_close(losses[0], 4 * losses[1])


def test_an_empty_batch_changes_nothing() -> None:
    layer = VectorQuantizer(4, 3, init="normal", channel_dim=-1)
    before = state_of(layer)
    assert layer(torch.zeros(0, 3)).z_q.shape == (0, 3)
    assert all(torch.equal(value, before[key]) for key, value in state_of(layer).items())


def test_a_reloaded_layer_continues_as_an_uninterrupted_one() -> None:
    uninterrupted, reloaded = VectorQuantizer(32, 4, restart_every=2), VectorQuantizer(32, 4, restart_every=2)
    for step in range(5):
        uninterrupted(vectors(step, 2, 4, 4, 4))
    reloaded.load_state_dict(uninterrupted.state_dict())
    for layer in (uninterrupted, reloaded):
        for step in range(5, 9):
            layer(vectors(step, 2, 4, 4, 4))
    assert torch.equal(uninterrupted.codebook, reloaded.codebook)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_codes": 0}, "num_codes=0: must be at least 1"),
        ({"dim": 0}, "dim=0: must be at least 1"),
        ({"code_dim": 0}, "code_dim=0: must be at least 1"),
        ({"decay": 1.0}, "decay=1.0: must be above 0 and below 1"),
        ({"decay": 0.0}, "decay=0.0: must be above 0 and below 1"),
        ({"beta": -0.1}, "beta=-0.1: must be at least 0"),
        ({"temperature": 0.0}, "temperature=0.0: must be above 0"),
        ({"restart_every": -1}, r"restart_every=-1: must be at least 0 \(0 disables restarts\)"),
        ({"restart_share": 1.5}, "restart_share=1.5: must be between 0 and 1"),
        ({"distance": "manhattan"}, "distance='manhattan': must be one of euclidean, cosine"),
        ({"assignment": "random"}, "assignment='random': must be one of nearest, gumbel"),
        ({"update": "sgd"}, "update='sgd': must be one of ema, gradient"),
        ({"init": "zeros"}, "init='zeros': must be one of kmeans, data, uniform, normal"),
        ({"channel_dim": 2}, "channel_dim=2: must be one of 1, -1"),
        ({"transport": "spin"}, "transport='spin': must be one of straight_through"),
        ({"assignment": "gumbel"}, "update='ema' with assignment='gumbel': .* use update='gradient'"),
        (
            {"assignment": "gumbel", "update": "gradient"},
            "transport='rotation' with assignment='gumbel': .* use transport='straight_through'",
        ),
    ],
)
def test_invalid_arguments_are_refused_with_a_message(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        VectorQuantizer(**{"num_codes": 4, "dim": 4, **arguments})


def test_a_wrong_channel_count_and_indices_out_of_range_are_refused() -> None:
    layer = VectorQuantizer(4, 3, init="normal")
    with pytest.raises(InputError, match=r"z_e: shape \(2, 4, 5, 5\), axis 1 must have dim=3 channels"):
        layer(torch.zeros(2, 4, 5, 5))
    with pytest.raises(InputError, match="indices: from 4 to 4, must be in 0…3"):
        layer.decode(torch.tensor([[4]]))


def test_the_documentation_of_the_layer_names_every_axis_and_value() -> None:
    documentation = VectorQuantizer.__doc__ or ""
    values = ("nearest", "gumbel", "euclidean", "cosine", "ema", "gradient", "kmeans", "data", "uniform", "normal")
    missing = [value for value in (*values, *transport_names()) if f'"{value}"' not in documentation]
    assert missing == []


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("code_dim", [None, 3])
def test_the_k_nearest_codes_and_their_distances_are_those_of_numpy(distance: str, code_dim: int | None) -> None:
    layer = VectorQuantizer(40, 6, code_dim=code_dim, distance=distance, init="normal")
    x = vectors(0, 2, 6, 4, 5)
    before = state_of(layer)
    indices, distances = layer.nearest(x, k=3)
    assert indices.shape == distances.shape == (2, 4, 5, 3)
    assert torch.equal(indices[..., 0], layer.eval()(x).indices)
    e = layer.project_in(x.movedim(1, -1)).detach().double().numpy().reshape(40, -1)
    codes = layer.codebook.double().numpy()
    if distance == "cosine":
        e, codes = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (e, codes))
        expected = np.sort(1 - e @ codes.T, axis=1)[:, :3]
    else:
        expected = np.sort(np.linalg.norm(e[:, None] - codes, axis=2), axis=1)[:, :3]
    np.testing.assert_allclose(distances.reshape(40, 3), expected, rtol=1e-4, atol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert [part.shape for part in layer.nearest(x[:0], k=2)] == [(0, 4, 5, 2)] * 2
    for k in (0, 41):
        with pytest.raises(InputError, match=f"k={k}: must be in 1…40"):
            layer.nearest(x, k)


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_codes_of_another_layer_are_taken_over_and_kept(update: str) -> None:
    layer, other = (VectorQuantizer(16, 8, channel_dim=-1, update=update, seed=seed) for seed in (0, 1))
    other(vectors(0, 256, 8))
    layer.set_codes(other.codebook, count=100.0)
    assert torch.equal(layer.codebook, other.codebook)
    x = vectors(1, 256, 8)
    assert torch.equal(layer(x).indices, other.eval()(x).indices)
    # 100 vectors a code beside the 1 % of a batch of 16 a code: the codes hardly move, and no first fill replaces them.
    assert (layer.codebook - other.codebook).abs().max() < 0.05
    layer.book = other.book
    assert layer.codebook is other.codebook
    for codes, count, message in (
        (torch.zeros(15, 8), 1.0, r"codes: shape \(15, 8\), must be finite and of shape \(16, 8\)"),
        (torch.full((16, 8), torch.nan), 1.0, "must be finite"),
        (torch.zeros(16, 8), 0.0, "count=0.0: must be above 0"),
    ):
        with pytest.raises(InputError, match=message):
            layer.set_codes(codes, count)
