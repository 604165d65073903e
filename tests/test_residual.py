"""Residual quantization: values, gradients by the written-out formula, shared codebooks, dropout of levels, beam."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor
from vector_quantize_pytorch import ResidualVQ

from vqlab import InputError, MultiHeadQuantizer, ResidualQuantizer
from vqlab.quantize import rowwise_transport_names, transport_gradient
from vqlab.quantize.near_ties import EqualCodes
from vqlab.quantize.search import nearest_codes
from vqlab.quantize.transports import get_transport

BACKWARD_RULES = [name for name in rowwise_transport_names() if get_transport(name).backward is not None]


def vectors(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def quantizer(levels: int = 3, **options: object) -> ResidualQuantizer:
    arguments: dict[str, object] = {"init": "normal", "channel_dim": -1, "restart_every": 0, **options}
    return ResidualQuantizer(16, 6, levels, **arguments)


def greedy(e: np.ndarray, codebooks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices and sum of the nearest codes of the residuals, level by level."""
    residual, total, indices = e.astype(np.float64), np.zeros(e.shape), []
    for codes in codebooks.astype(np.float64):
        index = ((residual[:, None] - codes) ** 2).sum(2).argmin(1)
        total, residual = total + codes[index], residual - codes[index]
        indices.append(index)
    return np.stack(indices, axis=1), total


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("beam", [1, 4])
def test_codes_are_those_of_the_residuals(shared: bool, beam: int) -> None:
    layer, e = quantizer(shared=shared).eval(), vectors(200, 6)
    indices, total = greedy(e.numpy(), layer.codebooks.numpy())
    out = layer(e)
    assert np.array_equal(out.indices.numpy(), indices)
    np.testing.assert_allclose(out.z_q.numpy(), total, atol=1e-5)
    squares = ((e.numpy() - total) ** 2).sum(1) / (e.numpy() ** 2).sum(1)
    assert float(out.stats["relative_error"]) == pytest.approx(squares.mean(), rel=1e-5)
    layer.beam = beam
    searched = layer(e)
    errors = [(e - result.z_q).square().sum(1) for result in (searched, out)]
    if beam == 1:
        assert torch.equal(searched.indices, out.indices)
    else:
        assert errors[0].mean() < errors[1].mean()
    assert torch.equal(layer.decode(searched.indices), searched.z_q)


def test_a_beam_of_every_path_finds_the_nearest_sum() -> None:
    layer = ResidualQuantizer(4, 3, 2, init="normal", channel_dim=-1, beam=16).eval()
    e, books = vectors(50, 3), layer.codebooks
    sums = (books[0][:, None] + books[1]).flatten(0, 1)
    nearest = torch.cdist(e.double(), sums.double()).argmin(1)
    torch.testing.assert_close(layer(e).z_q, sums[nearest])


@pytest.mark.parametrize("rule", BACKWARD_RULES)
@pytest.mark.parametrize("levels", [1, 3])
def test_the_gradient_is_the_product_over_the_levels(rule: str, levels: int) -> None:
    layer = quantizer(levels, transport=rule, beta=0.0).double()
    e, g = vectors(8, 6).double().requires_grad_(), vectors(8, 6, seed=1).double()
    out = layer.eval()(e)
    (grad,) = torch.autograd.grad(out.z_q, e, g)
    residual, factor = e.detach(), torch.eye(6, dtype=torch.float64).expand(8, 6, 6)
    for level in range(levels):
        q = layer.codebooks[level][out.indices[:, level]]
        # Row j of the transposed map is the gradient for the j-th unit vector at the output.
        rows = [transport_gradient(unit.expand(8, 6), residual, q, rule) for unit in torch.eye(6, dtype=torch.float64)]
        factor = (torch.eye(6, dtype=torch.float64) - torch.stack(rows, dim=1)) @ factor
        residual = residual - q
    expected = torch.einsum("nij,ni->nj", torch.eye(6, dtype=torch.float64) - factor, g)
    torch.testing.assert_close(grad, expected)
    if rule == "straight_through":
        torch.testing.assert_close(grad, g)


@pytest.mark.parametrize("rule", BACKWARD_RULES)
def test_a_joint_transport_takes_the_sum_for_the_code(rule: str) -> None:
    layer = quantizer(transport=rule, joint=True, beta=0.0).double().eval()
    e, g = vectors(8, 6).double().requires_grad_(), vectors(8, 6, seed=1).double()
    out = layer(e)
    (grad,) = torch.autograd.grad(out.z_q, e, g)
    torch.testing.assert_close(grad, transport_gradient(g, e.detach(), out.z_q.detach(), rule))


@pytest.mark.parametrize("rotation", [False, True])
def test_values_and_gradient_are_those_of_another_library(rotation: bool) -> None:
    # quant_grad_frac=1 gives the residuals their derivative; with its default 0, straight-through has n times g.
    peer = ResidualVQ(
        dim=6, codebook_size=16, num_quantizers=3, rotation_trick=rotation, quant_grad_frac=1.0, kmeans_init=False,
        commitment_weight=0.0, freeze_codebook=True,
    )  # fmt: skip
    layer = quantizer(transport="rotation" if rotation else "straight_through", beta=0.0)
    for own, other in zip(layer.quantizers, peer.layers, strict=True):
        codes = vectors(16, 6, seed=len(peer.layers))
        own.set_codes(codes)
        other._codebook.embed.data.copy_(codes[None])
    layer.freeze()
    e, g = vectors(64, 6), vectors(64, 6, seed=1)
    ours, theirs = e.clone().requires_grad_(), e.clone().requires_grad_()
    out, (z_q, indices, _) = layer(ours), peer(theirs[None])
    assert torch.equal(out.indices, indices[0])
    torch.testing.assert_close(out.z_q, z_q[0], atol=1e-5, rtol=1e-5)
    (grad,) = torch.autograd.grad(out.z_q, ours, g)
    (expected,) = torch.autograd.grad(z_q[0], theirs, g)
    torch.testing.assert_close(grad, expected, atol=1e-5, rtol=1e-5)


def test_the_loss_is_the_commitment_of_each_level_with_constant_codes() -> None:
    layer, e = quantizer(beta=0.5).double().eval(), vectors(8, 6).double().requires_grad_()
    out = layer(e)
    (grad,) = torch.autograd.grad(out.loss, e)
    residual, loss, expected = e.detach(), 0.0, torch.zeros(8, 6, dtype=torch.float64)
    for level in range(3):
        difference = residual - layer.codebooks[level][out.indices[:, level]]
        loss, expected = loss + 0.5 * difference.square().mean(), expected + difference / (8 * 6)
        residual = difference
    torch.testing.assert_close(out.loss.detach(), torch.as_tensor(loss))
    torch.testing.assert_close(grad, expected)


@pytest.mark.parametrize("shared", [False, True])
def test_codebooks_move_once_in_a_step_towards_their_residuals(shared: bool) -> None:
    layer, e = quantizer(shared=shared, decay=0.9), vectors(300, 6)
    before = copy.deepcopy(layer)
    out = layer(e)
    residual, counts, sums = e.double(), [], []
    for level in range(3):
        codes = before.codebooks[level].double()
        index = out.indices[:, level]
        one_hot = torch.nn.functional.one_hot(index, 16).double()
        counts.append(one_hot.sum(0))
        sums.append(one_hot.T @ residual)
        residual = residual - codes[index]
    books = layer.books
    assert [int(book.step) for book in books] == [1] * len(books)
    for number, book in enumerate(books):
        count = torch.stack(counts).sum(0) if shared else counts[number]
        total = torch.stack(sums).sum(0) if shared else sums[number]
        torch.testing.assert_close(book.counts.double(), 0.9 + 0.1 * count)
        expected = 0.9 * before.books[number].sums.double() + 0.1 * total
        torch.testing.assert_close(book.sums.double(), expected, atol=1e-4, rtol=1e-4)


def test_an_initial_fill_gives_each_level_the_centres_of_its_residuals() -> None:
    layer, e = quantizer(init="kmeans"), vectors(2000, 6)
    error = [float(layer(e).stats["relative_error"]) for _ in range(2)][-1]
    assert error < 0.35
    norms = layer.codebooks.norm(dim=2).mean(dim=1)
    assert norms[0] > norms[1] > norms[2]


def test_dropout_leaves_out_the_last_levels_of_whole_samples() -> None:
    layer = ResidualQuantizer(16, 6, 4, init="normal", level_dropout=0.5, transport="straight_through")
    z_e = vectors(400, 6, 3).requires_grad_()
    out = layer(z_e)
    kept = (out.indices >= 0).sum(dim=-1)
    assert (kept == kept[:, :1]).all()
    assert torch.equal(out.indices >= 0, torch.arange(4) < kept[..., None])
    shares = kept[:, 0].bincount(minlength=5) / 400
    np.testing.assert_allclose(shares, [0, 1 / 6, 1 / 6, 1 / 6, 1 / 2], atol=0.07)
    torch.testing.assert_close(layer.eval().decode(out.indices).shape, z_e.shape)
    (grad,) = torch.autograd.grad(out.z_q.sum(), z_e)
    torch.testing.assert_close(grad, torch.ones_like(grad))
    assert (layer(z_e).indices >= 0).all()


def test_the_first_levels_alone_decode() -> None:
    layer, e = quantizer().eval(), vectors(20, 6)
    indices = layer(e).indices
    torch.testing.assert_close(layer.decode(indices[:, :2]), sum(layer.codebooks[i][indices[:, i]] for i in range(2)))
    assert not layer.decode(torch.full((5, 3), -1)).any()
    with pytest.raises(InputError, match="levels"):
        layer.decode(torch.zeros(5, 4, dtype=torch.int64))


def test_padded_vectors_take_no_part() -> None:
    layer, e = quantizer(), vectors(40, 6)
    mask = torch.arange(40) < 30
    padded, plain = copy.deepcopy(layer), layer
    out, expected = padded(torch.where(mask[:, None], e, torch.nan), mask), plain(e[:30])
    assert (out.indices[30:] == -1).all()
    assert not out.z_q[30:].any()
    torch.testing.assert_close(out.z_q[:30], expected.z_q)
    torch.testing.assert_close(out.loss, expected.loss)
    for name, value in expected.stats.items():
        torch.testing.assert_close(out.stats[name], value, msg=name)
    torch.testing.assert_close(padded.codebooks, plain.codebooks)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"levels": 0}, "levels=0"),
        ({"level_dropout": 1.5}, "level_dropout=1.5"),
        ({"beam": 0}, "beam=0"),
        ({"beam": 2, "distance": "cosine"}, "beam=2"),
        ({"transport": "nsvq"}, "transport='nsvq'"),
        ({"transport": "dynamic", "joint": True}, "joint=True"),
        ({"assignment": "gumbel", "update": "gradient"}, "assignment='gumbel'"),
        ({"rule": "cvq"}, "rule='cvq'"),
    ],
)
def test_senseless_arguments_are_refused(options: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=named):
        quantizer(**options)


@pytest.mark.parametrize("shared", [False, True])
def test_heads_of_several_levels_are_residual_quantizers_side_by_side(shared: bool) -> None:
    layer = MultiHeadQuantizer(16, 6, 2, levels=3, shared=shared, init="normal", channel_dim=-1, restart_every=0).eval()
    e = vectors(50, 6)
    out, parts = layer(e), e.unflatten(-1, (2, 3))
    heads = [layer.quantizers[0 if shared else head](parts[:, head]) for head in range(2)]
    assert torch.equal(out.indices, torch.cat([head.indices for head in heads], dim=-1))
    assert torch.equal(out.z_q, torch.cat([head.z_q for head in heads], dim=-1))
    assert torch.equal(layer.decode(out.indices), out.z_q)
    assert (layer.codes_per_vector, layer.bits) == (6, 24.0)
    assert layer.codebooks.shape == ((3 if shared else 6), 16, 3)


@pytest.mark.parametrize("heads", [1, 2])
def test_codes_can_be_fitted_to_vectors(heads: int) -> None:
    layer = quantizer() if heads == 1 else MultiHeadQuantizer(16, 6, 2, levels=3, shared=False, channel_dim=-1)
    e = vectors(2000, 6)
    layer.fit_codes(e)
    assert float(layer.eval()(e).stats["relative_error"]) < 0.35


def test_a_step_of_eight_levels_of_1024_codes_holds_no_table_of_all_vectors_and_codes() -> None:
    layer = ResidualQuantizer(1024, 64, 8, channel_dim=-1)
    z_e = torch.randn(8192, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    peaks = []
    for _ in range(2):  # with the first fill of the codes, and without
        with torch.profiler.profile(profile_memory=True) as profile:
            out = layer(z_e)
            (out.z_q.sum() + out.loss).backward()
        del out
        events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
        held = peak = 0
        for event in sorted(events, key=lambda event: event.start_ns()):
            held += event.nbytes()
            peak = max(peak, held)
        peaks.append(peak)
    print(f"residual, 8 x 1024 codes, N = 8192: {', '.join(f'{peak / 2**20:.0f} MiB' for peak in peaks)}")
    # Distances to all codes of all levels would take 256 MiB.
    assert max(peaks) < 200e6, peaks


def test_many_equal_codes_are_one_candidate_of_the_search() -> None:
    """Residuals that are 0 are near to all codes that are 0; the lowest of them is the nearest."""
    generator = torch.Generator().manual_seed(0)
    for num_codes in (256, 5000):
        codes = torch.randn(num_codes, 16, generator=generator)
        codes[20::2] = 0
        x = torch.randn(600, 16, generator=generator)
        x[::3] = 0
        expected = torch.cdist(x.double(), codes.double()).argmin(dim=1)
        expected[::3] = 20
        assert torch.equal(nearest_codes(x, codes), expected)


@pytest.mark.parametrize("num_codes", [300, 1 << 18])
def test_pairs_of_a_row_with_equal_codes_are_one_pair(num_codes: int) -> None:
    """Else the first fill of eight levels with 1,024 codes takes minutes for 8,192 vectors."""
    codes = torch.zeros(num_codes, 4)
    codes[:7] = torch.arange(28).view(7, 4)
    row, code = torch.arange(100).repeat_interleave(290), torch.arange(290).repeat(100)
    rows, kept = EqualCodes(codes).distinct(row, code, 100)
    assert rows.tolist() == torch.arange(100).repeat_interleave(8).tolist()
    assert kept.tolist() == [0, 1, 2, 3, 4, 5, 6, 7] * 100


@pytest.mark.parametrize("num_codes", [256, 5000])
def test_vectors_of_zeros_have_the_first_code_by_cosine(num_codes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    codes, x = torch.randn(num_codes, 16, generator=generator), torch.randn(50, 16, generator=generator)
    x[::3] = 0
    expected = (torch.nn.functional.normalize(x.double()) @ torch.nn.functional.normalize(codes.double()).T).argmax(1)
    expected[::3] = 0
    assert torch.equal(nearest_codes(x, codes, "cosine"), expected)
