"""Codes that are replaced or left out, by the level or head of a vector."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_families import config

from vqlab import InputError, ResidualQuantizer, Run, train
from vqlab.analysis import interpolate, place_ablation, wrong_code_scores
from vqlab.analysis.tokenizer import Tokenizer, image_metrics
from vqlab.analysis.wrong_codes import replace_codes
from vqlab.quantize import MultiHeadQuantizer


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def residual(root: Path) -> Run:
    return train(config("residual"), root, "cpu")


@pytest.mark.parametrize("place", [0, 1, 2])
def test_only_codes_of_the_place_are_replaced(place: int) -> None:
    grid = torch.full((6, 5, 3), 7)
    changed = replace_codes(grid, 50, 7, 0, place)
    others = [other for other in range(3) if other != place]
    assert (changed[..., others] == 7).all()
    assert int((changed[..., place] != 7).sum()) == 15
    assert (grid == 7).all()


def test_codes_of_all_places_are_replaced_without_a_place() -> None:
    changed = replace_codes(torch.full((6, 5, 3), 7), 20, 7, 0)
    assert int((changed != 7).sum()) == 18
    assert all((changed[..., place] != 7).any() for place in range(3))


def test_the_only_place_of_a_grid_is_the_grid() -> None:
    grid = torch.arange(16).view(4, 4)
    assert torch.equal(replace_codes(grid, 50, 16, 3, 0), replace_codes(grid, 50, 16, 3))
    with pytest.raises(InputError, match="place=1: must be in 0…0"):
        replace_codes(grid, 50, 16, 3, 1)


def test_wrong_codes_of_the_first_level_cost_more_than_of_the_last(residual: Run) -> None:
    first, last = (wrong_code_scores(residual, (0, 100), 8, place)["PSNR (dB)"] for place in (0, 2))
    assert first.loc[0] == last.loc[0]
    assert first.loc[100] < last.loc[100] < last.loc[0]


def test_the_ablation_leaves_out_each_level(residual: Run) -> None:
    table = place_ablation(residual, 4)
    assert list(table.index) == [
        "all codes", "without level 1", "without level 2", "without level 3", "levels 1…1", "levels 1…2",
    ]  # fmt: skip
    tokenizer = Tokenizer(residual)
    layer, decoder = tokenizer.model.quantizer, tokenizer.model.decoder
    expected = []
    for image in tokenizer.data.test.evenly_spaced(4):
        indices = tokenizer.encode(image)
        codes = [book.codes[indices[..., level]] for level, book in enumerate(layer.books)]
        with torch.no_grad():
            z_q = layer.project_out(codes[0] + codes[2]).movedim(-1, 0)[None]
            expected.append(image_metrics(image, decoder(z_q)[0])["psnr"])
    assert table.loc["without level 2", "PSNR (dB)"] == pytest.approx(sum(expected) / 4, abs=1e-3)
    assert table.loc["levels 1…2", "PSNR (dB)"] == table.loc["without level 3", "PSNR (dB)"]
    assert table["PSNR (dB)"].idxmax() == "all codes"


def test_the_ablation_of_heads_leaves_out_each_head(root: Path) -> None:
    table = place_ablation(train(config("product"), root, "cpu"), 4)
    assert list(table.index) == ["all codes", "without head 1", "without head 2"]
    with pytest.raises(InputError, match="one code each"):
        place_ablation(train(config("simvq"), root, "cpu"))


def test_an_interpolation_of_several_codes_ends_in_the_reconstructions(residual: Run) -> None:
    ends = residual.data().test.pixels[:2].float() / 255
    path = interpolate(residual, ends, 5)
    expected = residual.model()(ends).reconstruction
    torch.testing.assert_close(path[[0, -1]], expected.detach(), atol=1e-5, rtol=0)
    assert (path[2] != path[0]).any()
    assert (path[2] != path[-1]).any()


def test_codes_are_replaced_by_a_function_at_one_level_or_at_all() -> None:
    z_e = torch.randn(4, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    layer = ResidualQuantizer(16, 8, 3, init="normal", codes_from=lambda codes: 2 * codes).eval()
    plain = ResidualQuantizer(16, 8, 3, init="normal").eval()
    assert torch.equal(layer.codebooks, 2 * plain.codebooks)
    assert torch.equal(layer.decode(layer(z_e).indices), layer(z_e).z_q)
    first, second = plain.quantizers[0], plain.quantizers[1]
    second.codes_from = lambda codes: codes.flip(0)
    indices = plain(z_e).indices
    assert torch.equal(plain.codebooks[1], second.book.codes.flip(0))
    assert torch.equal(plain.decode(indices[..., :1]), first.decode(indices[..., 0]).movedim(-1, 1))
    only_second = torch.full_like(indices, -1)
    only_second[..., 1] = indices[..., 1]
    expected = second.book.codes.flip(0)[indices[..., 1]]
    assert torch.equal(plain.decode(only_second), expected.movedim(-1, 1))


def test_codes_of_one_head_are_replaced_by_a_function() -> None:
    z_e = torch.randn(4, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    layer = MultiHeadQuantizer(16, 8, 2, shared=False, init="normal").eval()
    before = layer(z_e)
    layer.quantizers[1].codes_from = torch.zeros_like
    after = layer(z_e)
    assert torch.equal(after.z_q[:, :4], before.z_q[:, :4])
    assert not after.z_q[:, 4:].any()
