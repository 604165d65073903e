"""The layer: nearest codes, EMA, restarts, initialisation, shapes, refusals."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vqlab import InputError, VectorQuantizer


def vectors(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def state(layer: VectorQuantizer) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in layer.state_dict().items()}


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), codes=st.integers(1, 40), dim=st.integers(1, 12))
def test_codes_are_the_nearest_found_by_numpy(seed: int, codes: int, dim: int) -> None:
    layer = VectorQuantizer(codes, dim, init="normal", channel_dim=-1).eval()
    x = vectors(seed, 50, dim)
    out = layer(x)
    distances = ((x.numpy()[:, None].astype(np.float64) - layer.codebook.numpy()[None]) ** 2).sum(-1)
    chosen = distances[np.arange(50), out.indices.numpy()]
    np.testing.assert_allclose(chosen, distances.min(1), rtol=1e-4, atol=1e-5)
    assert torch.equal(out.z_q, layer.codebook[out.indices])


def test_cosine_distance_chooses_by_direction() -> None:
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


def test_eval_never_moves_a_buffer() -> None:
    layer = VectorQuantizer(16, 8).eval()
    before = state(layer)
    layer(vectors(4, 4, 8, 6, 6))
    assert all(torch.equal(value, before[key]) for key, value in state(layer).items())


def test_ema_follows_the_formula_of_numpy() -> None:
    layer = VectorQuantizer(6, 3, init="normal", decay=0.9, restart_every=0, channel_dim=-1)
    codes = layer.codebook.numpy().copy()
    counts, sums = np.ones(6), codes.astype(np.float64)
    x = vectors(5, 40, 3)
    chosen = layer(x).indices.numpy()
    one_hot = np.eye(6)[chosen]
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


def test_restarted_codes_survive_the_next_step() -> None:
    layer = VectorQuantizer(64, 4, init="normal", channel_dim=-1, restart_every=1)
    for step in range(80):
        layer(vectors(step, 512, 4) * 0.1 + 5)
    assert layer(vectors(99, 512, 4) * 0.1 + 5).stats["utilisation"] > 0.9


@pytest.mark.parametrize("init", ["kmeans", "data"])
def test_first_fill_works_with_fewer_vectors_than_codes(init: str) -> None:
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


def test_beta_weighs_the_commitment_term() -> None:
    losses = [
        VectorQuantizer(4, 3, init="normal", beta=beta, channel_dim=-1)(vectors(9, 30, 3)).loss for beta in (1.0, 0.25)
    ]
    torch.testing.assert_close(losses[0], 4 * losses[1])


def test_an_empty_batch_changes_nothing() -> None:
    layer = VectorQuantizer(4, 3, init="normal", channel_dim=-1)
    before = state(layer)
    assert layer(torch.zeros(0, 3)).z_q.shape == (0, 3)
    assert all(torch.equal(value, before[key]) for key, value in state(layer).items())


def test_a_reloaded_layer_goes_on_as_if_never_stopped() -> None:
    one, other = VectorQuantizer(32, 4, restart_every=2), VectorQuantizer(32, 4, restart_every=2)
    for step in range(5):
        one(vectors(step, 2, 4, 4, 4))
    other.load_state_dict(one.state_dict())
    for layer in (one, other):
        for step in range(5, 9):
            layer(vectors(step, 2, 4, 4, 4))
    assert torch.equal(one.codebook, other.codebook)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"num_codes": 0}, "num_codes=0"),
        ({"dim": 0}, "dim=0"),
        ({"decay": 1.0}, "decay=1.0"),
        ({"distance": "manhattan"}, "euclidean, cosine"),
        ({"assignment": "gumbel"}, "update='gradient'"),
        ({"assignment": "gumbel", "update": "gradient"}, "transport='straight_through'"),
    ],
)
def test_senseless_values_are_refused_with_a_reason(changes: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=named):
        VectorQuantizer(**{"num_codes": 4, "dim": 4, **changes})


def test_a_wrong_channel_count_and_foreign_indices_are_refused() -> None:
    layer = VectorQuantizer(4, 3, init="normal")
    with pytest.raises(InputError, match="dim=3"):
        layer(torch.zeros(2, 4, 5, 5))
    with pytest.raises(InputError, match="0…3"):
        layer.decode(torch.tensor([[4]]))
