"""Codes by their place in a vector: levels, heads, and the scalars and bits of fixed codes, in every view of codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_families import FAMILIES, SMALL

from vqlab import Config, InputError, Run, train
from vqlab.analysis import CodePlaces, Tokenizer, probe_transports
from vqlab.plots import (
    code_lifetimes,
    code_patches,
    codebook_projection,
    perplexity_by_window,
    rank_frequency,
    usage_by_place,
    usage_by_rank,
    usage_explorer,
    usage_over_training,
)
from vqlab.plots.usage import window_perplexities
from vqlab.quantize import FiniteScalarQuantizer
from vqlab.report.run_page import run_page_data, write_run_page
from vqlab.widgets import CodebookExplorer, LiveTraining, ReconstructionExplorer, SampleExplorer

# Names of the places, and the number of values of each.
PLACES: dict[str, dict[str, int]] = {
    "product": {"head 1": 16, "head 2": 16},
    "residual": {"level 1": 16, "level 2": 16, "level 3": 16},
    "residual, shared": {"level 1": 16, "level 2": 16, "level 3": 16},
    "residual of heads": {f"head {head}, level {level}": 16 for head in (1, 2) for level in (1, 2)},
    "fsq": {"whole index": 16, "scalar 1": 4, "scalar 2": 4},
    "bsq": {"whole index": 16, **{f"bit {bit}": 2 for bit in (1, 2, 3, 4)}},
}
RESIDUAL = [family for family in PLACES if family.startswith("residual")]
SEVERAL = ["product", *RESIDUAL]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def run(request: pytest.FixtureRequest, root: Path) -> Run:
    """A Run of the family; it is trained by the first test that needs it."""
    return trained(request.param, root)


def trained(family: str, root: Path, **changes: Any) -> Run:
    return train(Config.profile("quick", **{**SMALL, **FAMILIES[family], **changes}), root, "cpu")


def families(names: Any) -> Any:
    return pytest.mark.parametrize("run", names, indirect=True)


def decoded(run: Run, grid: Any) -> torch.Tensor:
    with torch.no_grad():
        return run.model().decode(torch.as_tensor(grid)[None])[0]


@pytest.mark.parametrize("family", PLACES)
def test_the_places_of_a_family_have_names_and_sizes(family: str, root: Path) -> None:
    places = CodePlaces(Tokenizer(trained(family, root)))
    assert {place.name: place.size for place in places.all} == PLACES[family]
    assert places.names == list(PLACES[family])
    assert places.levels == {"residual": 3, "residual, shared": 3, "residual of heads": 2}.get(family, 1)
    assert len({place.codebook for place in places.all}) == len(PLACES[family])


@families(list(PLACES))
def test_a_written_place_is_read_again_and_no_other_place_changes(run: Run) -> None:
    tokenizer = Tokenizer(run)
    places = CodePlaces(tokenizer)
    grid = tokenizer.encode(run.data().test.pixels[0].float() / 255)
    parts = [place for place in places.all if place.name != "whole index"]
    for place in parts:
        values = (place.read(grid) + 1) % place.size
        written = place.write(grid, values)
        assert torch.equal(place.read(written), values)
        for other in parts:
            if other is not place:
                assert torch.equal(other.read(written), other.read(grid))


@families(["fsq", "bsq"])
def test_the_values_of_a_scalar_are_those_of_the_decoded_code(run: Run) -> None:
    tokenizer = Tokenizer(run)
    layer = tokenizer.model.quantizer
    indices = torch.arange(16)
    numbers = torch.stack([place.read(indices) for place in CodePlaces(tokenizer).all[1:]], dim=1)
    half = 2 if isinstance(layer, FiniteScalarQuantizer) else 0.5
    scale = 2 if isinstance(layer, FiniteScalarQuantizer) else 0.5 / layer.codebook.max().item()
    assert torch.allclose(layer.codebook, (numbers - half) / scale)


@families(list(PLACES))
def test_usage_of_a_place_counts_its_values_and_patches_are_those_of_its_codes(run: Run) -> None:
    tokenizer = Tokenizer(run)
    images = tokenizer.data.test.pixels
    grids = torch.stack([tokenizer.encode(image.float() / 255) for image in images])
    for place in CodePlaces(tokenizer).all:
        assert place.usage.shape == (2, place.size)
        assert (place.usage.sum(axis=1) == 256 * 64).all()
        values = place.read(grids)
        counted = torch.bincount(values.flatten(), minlength=place.size)
        assert torch.equal(place.token_counts(), counted)
        assert place.patches.shape == (place.size, 3, 4, 4)
        value = int(counted.argmax())
        patches = place.nearest_patches(value, 5)
        assert patches.shape == (5, 3, 12, 12)
        shown = [
            images[image, :, row * 4 : row * 4 + 4, column * 4 : column * 4 + 4]
            for image, row, column in (values == value).nonzero().tolist()
        ]
        assert all(any(torch.equal(patch[:, 4:8, 4:8], other) for other in shown) for patch in patches)


@families(["residual", "product"])
def test_the_patch_of_a_code_is_decoded_with_the_most_used_codes_of_the_other_places(run: Run) -> None:
    places = CodePlaces(Tokenizer(run))
    vector = [int(place.usage[-1].argmax()) for place in places.all]
    vector[1] = 5
    solid = decoded(run, np.broadcast_to(vector, (4, 4, len(vector))).copy())
    assert torch.equal(places.all[1].patches[5], (solid[:, 8:12, 8:12] * 255).round().byte())


@families(RESIDUAL)
def test_nearest_patches_of_a_level_are_nearest_to_what_the_levels_before_left(run: Run) -> None:
    tokenizer = Tokenizer(run)
    settings, model, pixels = run.config.quantizer, run.model(), tokenizer.data.test.pixels
    with torch.no_grad():
        z_e = model.encoder(pixels.float() / 255).double()
        indices = model.quantizer(z_e.float()).indices
    heads = model.quantizer.double().project_in(z_e.movedim(1, -1)).detach().unflatten(-1, (settings.heads, -1))
    for number, place in enumerate(CodePlaces(tokenizer).all):
        head, level = divmod(number, settings.levels)
        first = head * settings.levels
        sums = sum(model.quantizer.codebooks[first + up][indices[..., first + up]] for up in range(level + 1))
        errors = (heads[..., head, :] - sums).square().sum(dim=-1)
        value = int(place.token_counts().argmax())
        errors[indices[..., number] != value] = torch.inf
        image, row, column = np.unravel_index(int(errors.argmin()), errors.shape)
        nearest = pixels[image, :, row * 4 : row * 4 + 4, column * 4 : column * 4 + 4]
        assert torch.equal(place.nearest_patches(value, 1)[0, :, 4:8, 4:8], nearest)


@families(["residual", "residual of heads"])
def test_the_first_levels_are_decoded_without_the_later_ones(run: Run) -> None:
    tokenizer, settings = Tokenizer(run), run.config.quantizer
    places = CodePlaces(tokenizer)
    image = run.data().test.pixels[3].float() / 255
    grid = tokenizer.encode(image)
    for levels in range(1, settings.levels + 1):
        kept = grid.clone().unflatten(-1, (settings.heads, settings.levels))
        kept[..., levels:] = -1
        assert torch.equal(places.decode(grid, levels), decoded(run, kept.flatten(-2)))
    assert torch.equal(places.decode(grid, settings.levels), places.decode(grid))
    assert not torch.equal(places.decode(grid, 1), places.decode(grid))


@families(list(PLACES))
def test_tools_of_the_reconstruction_explorer_edit_one_place(run: Run) -> None:
    explorer = ReconstructionExplorer(run, index=5)
    for name in explorer.places.names:
        explorer.state = {"place": name, "tool": "brush", "code": 1}
        explorer.reset()
        start = torch.tensor(explorer.state["grid"])
        explorer.state = {"code": (explorer.cells[2][3] + 1) % explorer.place.size}
        explorer.apply_tool(2, 3)
        values = explorer.place.read(start).clone()
        values[2, 3] = explorer.state["code"]
        expected = explorer.place.write(start, values)
        assert explorer.state["grid"] == expected.tolist()
        assert explorer.cells == values.tolist()
        assert torch.equal(explorer.reconstruction, decoded(run, expected))
        explorer.undo()
        assert explorer.state["grid"] == start.tolist()
        explorer.state = {"noise": 100}
        explorer.add_noise()
        noisy = torch.tensor(explorer.state["grid"])
        for other in explorer.places.all:
            if other.name not in (name, "whole index") and name != "whole index":
                assert torch.equal(other.read(noisy), other.read(start))
        assert "image/png" in explorer._repr_mimebundle_()


def test_levels_of_the_explorer_decode_the_first_codes_and_scores_follow(root: Path) -> None:
    explorer = ReconstructionExplorer(trained("residual", root), index=2)
    assert (explorer.state["place"], explorer.state["levels"]) == ("level 1", 3)
    grid = torch.tensor(explorer.state["grid"])
    scores = []
    for levels in (1, 2, 3):
        explorer.state = {"levels": levels}
        assert torch.equal(explorer.reconstruction, explorer.places.decode(grid, levels))
        scores.append(explorer.scores()["psnr"])
    assert scores[0] < scores[2]
    for state, message in (
        ({"place": "level 4"}, "place='level 4': must be one of level 1, level 2, level 3"),
        ({"levels": 4}, "levels=4: must be a number from 1 to 3"),
        ({"grid": [[0] * 8] * 8}, r"must be \(8, 8, 3\)"),
    ):
        with pytest.raises(InputError, match=message):
            explorer.state = state


def test_runs_of_different_families_are_switched_in_one_explorer(root: Path) -> None:
    runs = {"one code": trained("simvq", root), "levels": trained("residual", root), "bits": trained("bsq", root)}
    explorer = ReconstructionExplorer(runs)
    assert (explorer.state["place"], explorer.state["levels"]) == (None, None)
    with pytest.raises(InputError, match="each vector has one code"):
        explorer.state = {"place": "level 1"}
    with pytest.raises(InputError, match="levels=2: must be None"):
        explorer.state = {"levels": 2}
    assert explorer.view is explorer.view
    view = explorer._view
    assert (view.place.layout.display, view.levels.layout.display) == ("none", "none")
    explorer.state = {"run": "levels", "place": "level 2", "code": 15, "levels": 1}
    assert (view.place.layout.display, view.place.value, view.place.description) == (None, "level 2", "level")
    assert view.grid_caption.content["parts"][0].startswith("code grid, 8×8, level 2 (not decoded)\n")
    assert view.link.codebook == f"{runs['levels'].config.id}, level 2"
    explorer.state = {"run": "bits"}
    assert (explorer.state["place"], explorer.state["levels"], view.levels.layout.display) == (
        "whole index",
        None,
        "none",
    )
    explorer.state = {"place": "bit 3"}
    assert explorer.state["code"] == 1
    assert view.grid.num_codes == 2
    view.place.value = "whole index"
    assert explorer.state["place"] == "whole index"
    explorer.state = {"run": "one code"}
    assert view.link.codebook == runs["one code"].config.id
    assert view.place.layout.display == "none"
    assert explorer.message == ""


@families(list(PLACES))
def test_the_codebook_explorer_shows_the_codes_of_each_place(run: Run) -> None:
    explorer = CodebookExplorer(run)
    assert explorer.view is explorer.view
    for place in explorer.places.all:
        explorer.state = {"place": place.name, "epoch": 1}
        order, counts = explorer.usage()
        assert counts.tolist() == sorted(place.usage[0].tolist(), reverse=True)
        explorer.move_rank(-place.size)
        assert explorer.state["code"] == order[0]
        assert explorer._view.bars.content["tokens"] == place.usage[0].tolist()
        assert f"codes of {place.name} used" in explorer._view.bars.content["title"]
        assert place.name in explorer.figure().get_suptitle()
    assert CodebookExplorer(run, place=place.name).state["code"] == int(place.token_counts().argmax())


def test_bits_are_shown_where_the_whole_index_has_too_many_values(root: Path, tmp_path: Path) -> None:
    run = trained("lfq", root, **{"quantizer.num_codes": 1 << 14})
    places = CodePlaces(Tokenizer(run))
    assert places.names == [f"bit {bit + 1}" for bit in range(14)]
    counts, bits = run.usage()[-1], (np.arange(1 << 14)[:, None] >> np.arange(13, -1, -1)) & 1
    assert [place.usage[-1][1] for place in places.all] == (counts @ bits).tolist()
    explorer = ReconstructionExplorer(run, tool="brush")
    value = explorer.cells[0][0]
    explorer.state = {"code": 1 - value}
    before = explorer.state["grid"][0][0]
    explorer.apply_tool(0, 0)
    assert explorer.state["grid"][0][0] == before ^ (1 << 13)
    assert write_run_page(run, tmp_path / "page.html").stat().st_size < 5e6


@families(SEVERAL)
def test_figures_of_usage_are_drawn_by_place(run: Run) -> None:
    places = run.config.quantizer.codes_per_vector
    names = CodePlaces(Tokenizer(run)).names
    figures = [draw(run, place=places - 1) for draw in (usage_over_training, code_lifetimes, code_patches)]
    assert all(names[-1] in figure.get_suptitle() for figure in figures)
    assert names[-1] in usage_explorer(run, place=places - 1).layout.title.text
    for draw in (usage_over_training, code_lifetimes, code_patches, usage_explorer):
        with pytest.raises(InputError, match="give the place of one"):
            draw(run)
    labels = [text.get_text() for text in rank_frequency({"a": run}).axes[0].get_legend().get_texts()]
    assert [label.split(":")[0] for label in labels[:-1]] == [f"a, {name}" for name in names]
    assert len(usage_by_rank(run).axes[0].lines) == places
    assert [axis.get_title().split("\n")[0] for axis in codebook_projection({"a": run}).axes] == [
        f"a, {name}" for name in names
    ]
    tokens = [row["tokens"] for row in window_perplexities(run)]
    assert tokens == [run.config.optim.batch_size * 64, 256 * 64, 32 * 64]
    assert len(perplexity_by_window({"a": run}).axes) == 1


@families(list(PLACES))
def test_bars_of_usage_by_place_are_the_share_of_the_perplexity(run: Run) -> None:
    figure = usage_by_place(run)
    for index, place in enumerate(CodePlaces(Tokenizer(run)).all):
        share = place.usage[-1] / place.usage[-1].sum()
        entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
        assert figure.axes[0].patches[index].get_width() == pytest.approx(np.exp(entropy) / place.size, rel=1e-5)
        assert figure.axes[1].patches[index].get_width() == pytest.approx((share > 0).mean())


@pytest.mark.parametrize(("family", "name"), [("residual", "level 2"), ("fsq", "scalar 1")])
def test_samples_show_the_kept_codes_of_a_place(family: str, name: str, root: Path) -> None:
    codec = trained(family, root)
    small = {"prior.kind": "transformer", "prior.epochs": 1, "prior.width": 16, "prior.layers": 1, "prior.heads": 2}
    explorer = SampleExplorer(train(codec.config.replace(**small), root, "cpu"), place=name)
    assert explorer.view is explorer.view
    explorer.keep_rows(4)
    kept = explorer.tokenizer.encode(explorer.image)
    assert (explorer.codes()[:, :4] == kept[:4]).all()
    place = explorer.places[name]
    cells = explorer._view.known.cells
    assert cells[:4] == place.read(kept)[:4].tolist()
    assert cells[4:] == [[-1] * 8] * 4
    assert explorer._view.known.num_codes == place.size
    assert "image/png" in explorer._repr_mimebundle_()
    with pytest.raises(InputError, match="place='level 9'"):
        explorer.state = {"place": "level 9"}


@families(["product", "residual", "fsq"])
def test_a_live_training_counts_the_codes_of_each_place(run: Run) -> None:
    live = LiveTraining(run.config, run.folder.parent, "cpu")
    assert live.view is live.view
    grids = run.model().encode(run.data().test.evenly_spaced(64))
    assert live.code_counts is not None
    counts = live.code_counts.view(run.config.quantizer.codes_per_vector, 16)
    first = grids if len(counts) == 1 else grids[..., 0]
    assert torch.equal(counts[0], torch.bincount(first.flatten(), minlength=16))
    assert counts.sum() == grids.numel()


@pytest.mark.parametrize("family", SEVERAL)
def test_transports_of_a_run_with_several_codes_have_their_own_gradients(family: str, root: Path) -> None:
    # Gradients inside the projections follow from those outside if the codes of all heads have at most D channels.
    run = trained(family, root, **{"quantizer.code_dim": 4})
    tables = probe_transports(run, ["straight_through", "rotation"], num_images=4)
    assert (tables["straight_through"]["angle_gradients"] < 0.1).all()
    assert tables["rotation"]["angle_gradients"].median() > 1


@families(["fsq", "lfq", "bsq"])
def test_the_projection_of_fixed_codes_has_the_vectors_of_the_decoder(run: Run) -> None:
    (axis,) = codebook_projection({"a": run}).axes
    assert sum(len(line.get_xdata()) for line in axis.lines[2:]) == 16


@families(list(PLACES))
def test_the_page_of_a_run_has_every_place_and_the_first_levels(run: Run, tmp_path: Path) -> None:
    tokenizer = Tokenizer(run)
    places = CodePlaces(tokenizer)
    data = run_page_data(tokenizer, num_images=2)
    assert [place["name"] for place in data["places"]] == places.names
    assert data["levels"] == list(range(1, places.levels + 1))
    for image in data["images"]:
        pixels = tokenizer.data.test.pixels[image["index"]].float() / 255
        grid = tokenizer.encode(pixels)
        assert image["grids"] == [place.read(grid).tolist() for place in places.all]
        assert len(image["decoded"]) == places.levels
        error = (pixels - places.decode(grid, 1)).square().mean()
        assert image["decoded"][0]["psnr"] == pytest.approx(float(-10 * error.log10()), abs=1e-3)
    for shown, place in zip(data["places"], places.all, strict=True):
        assert shown["usage"] == place.usage.tolist()
    assert write_run_page(run, tmp_path / "page.html", 2).stat().st_size < 5e6
