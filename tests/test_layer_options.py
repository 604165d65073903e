"""Options of the layer that users of other layers ask for: terms of the loss, codes from a function, several heads."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy
from torch import Tensor, nn

from vqlab import InputError, MultiHeadQuantizer, ResidualQuantizer, VectorQuantizer
from vqlab.quantize import Quantizer
from vqlab.quantize.loss_terms import code_entropies, non_orthogonality


def vectors(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# Terms of the loss.


@pytest.mark.parametrize("masked", [False, True])
def test_entropies_are_those_of_scipy(masked: bool) -> None:
    logits = vectors(50, 7) * 3
    rows = torch.arange(50) < 30 if masked else None
    probabilities = softmax((logits[:30] if masked else logits).double().numpy(), axis=1)
    uncertainty, unevenness = code_entropies(logits, rows)
    assert uncertainty.item() == pytest.approx(entropy(probabilities, axis=1).mean(), rel=1e-5)
    assert unevenness.item() == pytest.approx(math.log(7) - entropy(probabilities.mean(axis=0)), rel=1e-4)


def test_orthogonality_is_the_mean_squared_cosine_of_all_pairs() -> None:
    codes = vectors(9, 4)
    cosines = [np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b) for a, b in combinations(codes.numpy(), 2)]
    assert non_orthogonality(codes).item() == pytest.approx(np.mean(np.square(cosines)), rel=1e-5)
    assert abs(non_orthogonality(codes[:1])) < 1e-6


@pytest.mark.parametrize(
    ("option", "term"),
    [
        ("entropy_weight", lambda logits, codes: code_entropies(logits)[0]),
        ("diversity_weight", lambda logits, codes: code_entropies(logits)[1]),
        ("orthogonality_weight", lambda logits, codes: non_orthogonality(codes)),
    ],
)
def test_the_layer_adds_each_term_and_its_gradient_with_its_weight(
    option: str, term: Callable[[Tensor, Tensor], Tensor]
) -> None:
    options = {"channel_dim": -1, "update": "gradient", "init": "normal", "restart_every": 0, "temperature": 0.5}
    plain, layer = VectorQuantizer(8, 6, **options), VectorQuantizer(8, 6, **options, **{option: 0.3})
    z_e, other = vectors(200, 6).requires_grad_(), vectors(200, 6).requires_grad_()
    logits = -((z_e[:, None] - plain.codebook) ** 2).sum(dim=2) / 0.5
    expected, loss = plain(z_e).loss + 0.3 * term(logits, plain.codebook), layer(other).loss
    torch.testing.assert_close(loss, expected)
    expected.backward()
    loss.backward()
    torch.testing.assert_close(other.grad, z_e.grad)
    torch.testing.assert_close(layer.codebook.grad, plain.codebook.grad)


def test_vectors_that_are_masked_or_not_finite_take_no_part_in_the_terms() -> None:
    z_e, mask = vectors(40, 6), torch.arange(40) < 25
    layer = VectorQuantizer(8, 6, channel_dim=-1, init="normal", entropy_weight=1.0, diversity_weight=1.0).eval()
    padded = torch.where(mask[:, None], z_e, float("nan")).requires_grad_()
    loss = layer(padded, mask=mask).loss
    torch.testing.assert_close(loss, layer(z_e[:25]).loss)
    loss.backward()
    assert padded.grad[:25].isfinite().all()
    assert (padded.grad[25:] == 0).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: VectorQuantizer(8, 6, channel_dim=-1, init="normal"),
        lambda: VectorQuantizer(8, 6, channel_dim=-1, init="normal", code_dim=4),
        lambda: MultiHeadQuantizer(8, 6, 2, channel_dim=-1, init="normal", code_dim=4),
        lambda: ResidualQuantizer(8, 6, 2, channel_dim=-1, init="normal", code_dim=4),
    ],
)
def test_padding_that_is_not_finite_reaches_no_gradient(make: Callable[[], Quantizer]) -> None:
    layer, z_e, mask = make(), vectors(40, 6), torch.arange(40) < 25
    padded = torch.where(mask[:, None], z_e, float("nan")).requires_grad_()
    out = layer(padded, mask=mask)
    (out.z_q.square().sum() + out.loss).backward()
    assert (padded.grad[25:] == 0).all()
    assert padded.grad[:25].isfinite().all()
    assert all(weight.grad.isfinite().all() for weight in layer.parameters() if weight.grad is not None)


@pytest.mark.parametrize(
    "options",
    [{"entropy_weight": -1.0}, {"diversity_weight": float("nan")}, {"orthogonality_weight": 0.1, "update": "ema"}],
)
def test_weights_that_make_no_sense_are_refused_by_name(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        VectorQuantizer(8, 6, **options)


# Codes from a function.


def test_codes_from_replaces_the_codes_everywhere() -> None:
    layer = VectorQuantizer(8, 6, channel_dim=-1, init="normal").eval()
    z_e = vectors(100, 6)
    used = int(layer(z_e).indices.mode().values)

    def without_the_most_used(codes: Tensor) -> Tensor:
        return codes.index_fill(0, torch.tensor(used), 1e4)

    layer.codes_from = without_the_most_used
    out = layer(z_e)
    assert used not in out.indices
    assert torch.equal(out.z_q, layer.codebook[out.indices])
    assert torch.equal(layer.decode(out.indices), out.z_q)
    assert torch.equal(layer.nearest(z_e)[0][:, 0], out.indices)
    assert torch.equal(layer.codebook[used], torch.full((6,), 1e4))
    assert "codes_from" in repr(layer)
    layer.codes_from = None
    assert used in layer(z_e).indices


def test_a_linear_layer_of_the_codes_trains_as_in_simvq() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(6, 6, bias=False)
    layer = VectorQuantizer(8, 6, channel_dim=-1, update="gradient", init="normal", restart_every=0, codes_from=linear)
    layer.book.codes.requires_grad_(False)
    assert "codes_from.weight" in layer.state_dict()
    z_e = vectors(300, 6)
    expected = copy.deepcopy(linear)
    codes = expected(layer.book.codes)
    q = codes[torch.cdist(z_e, codes).argmin(dim=1)]
    (0.25 * (z_e - q.detach()).square().mean() + (q - z_e).square().mean()).backward()
    layer(z_e).loss.backward()
    torch.testing.assert_close(linear.weight.grad, expected.weight.grad)
    assert layer.book.codes.grad is None


# Several heads.


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("channel_dim", [1, -1])
def test_heads_quantize_groups_of_channels_by_nearest_codes(shared: bool, channel_dim: int) -> None:
    layer = MultiHeadQuantizer(16, 12, 3, shared=shared, channel_dim=channel_dim)
    z_e = vectors(8, 12, 5, 5) if channel_dim == 1 else vectors(8, 5, 5, 12)
    layer(z_e)
    out = layer.eval()(z_e)
    assert out.indices.shape == (8, 5, 5, 3)
    rows = z_e.movedim(channel_dim, -1).reshape(-1, 3, 4)
    for head in range(3):
        codes = layer.codebooks[0 if shared else head]
        nearest = torch.cdist(rows[:, head].double(), codes.double()).argmin(dim=1)
        assert torch.equal(out.indices[..., head].flatten(), nearest)
        assert torch.equal(out.z_q.movedim(channel_dim, -1).reshape(-1, 3, 4)[:, head], codes[nearest])
    assert torch.equal(layer.decode(out.indices), out.z_q)
    assert len(layer.codebooks) == (1 if shared else 3)


def test_heads_with_separate_codebooks_start_from_other_seeds() -> None:
    layer = MultiHeadQuantizer(16, 8, 2, shared=False, init="normal")
    assert not torch.equal(*layer.codebooks)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_heads_with_projections_train_in_every_dtype(shared: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = MultiHeadQuantizer(16, 10, 3, shared=shared, code_dim=4, beta=1.0).to(dtype)
    z_e = vectors(4, 10, 6, 6).to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    mask = torch.rand(4, 6, 6) < 0.7
    out = layer(z_e, mask=mask)
    (out.z_q.square().mean() + out.loss).backward()
    assert out.z_q.dtype == dtype
    assert out.z_q.is_contiguous(memory_format=torch.channels_last)
    assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters())
    assert (out.indices[~mask] == -1).all()
    assert (out.z_q.movedim(1, -1)[~mask] == 0).all()
    assert (z_e.grad.movedim(1, -1)[~mask] == 0).all()
    torch.testing.assert_close(
        layer.eval().decode(out.indices).movedim(1, -1)[~mask],
        torch.zeros((~mask).sum(), 10, dtype=layer.codebooks.dtype),
    )


def test_statistics_of_separate_heads_are_means_and_sums() -> None:
    layer = MultiHeadQuantizer(16, 8, 2, shared=False, init="normal").eval()
    z_e = vectors(50, 8)
    each = [one(part) for one, part in zip(layer.quantizers, z_e.split(4, dim=1), strict=True)]
    out = layer(z_e)
    assert out.stats["dead_codes"] == sum(one.stats["dead_codes"] for one in each)
    torch.testing.assert_close(out.stats["perplexity"], sum(one.stats["perplexity"] for one in each) / 2)
    torch.testing.assert_close(out.loss, sum(one.loss for one in each) / 2)


def test_frozen_heads_keep_their_codes() -> None:
    layer = MultiHeadQuantizer(16, 8, 2, shared=False, init="normal")
    layer.freeze()
    before = layer.codebooks
    layer(vectors(50, 8))
    assert torch.equal(layer.codebooks, before)
    layer.freeze(False)
    layer(vectors(50, 8))
    assert not torch.equal(layer.codebooks, before)


def test_heads_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="heads=3"):
        MultiHeadQuantizer(16, 8, 3)
    with pytest.raises(InputError, match="heads=0"):
        MultiHeadQuantizer(16, 8, 0)
    layer = MultiHeadQuantizer(16, 8, 2)
    with pytest.raises(InputError, match="dim=8"):
        layer(vectors(5, 6))
    with pytest.raises(InputError, match="heads=2"):
        layer.decode(torch.zeros(3, 3, dtype=torch.int64))
