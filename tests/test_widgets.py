"""Explorers without a page: their state, their refusals, their static twins."""

from __future__ import annotations

import base64
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from PIL import Image
from test_training import same_weights, tiny

from vqlab import InputError, Run, train
from vqlab.analysis.pictures import tile_images
from vqlab.analysis.tokenizer import Tokenizer
from vqlab.metrics import psnr
from vqlab.models import sample_codes
from vqlab.widgets import (
    CodebookExplorer,
    Explorer,
    GradientExplorer,
    LiveTraining,
    PlaneExplorer,
    ReconstructionExplorer,
    SampleExplorer,
    headless,
)
from vqlab.widgets.grid_edits import changed_cells, noised, painted, swapped


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tiny(), tmp_path_factory.mktemp("runs"), "cpu")


@pytest.fixture(scope="module")
def other(run: Run) -> Run:
    return train(tiny(**{"quantizer.transport": "straight_through"}), run.folder.parent, "cpu")


Shown = TypeVar("Shown", bound=Explorer)


def opened(explorer: Shown) -> Shown:
    """The explorer, with its live view built, as a page would have it."""
    assert explorer.view is explorer.view
    return explorer


def explorers(run: Run, root: Path) -> list[Explorer]:
    return [
        ReconstructionExplorer(run), CodebookExplorer(run), GradientExplorer(run), PlaneExplorer(),
        LiveTraining(run.config, run.folder.parent, "cpu"), LiveTraining(tiny(seed=5), root, "cpu"),
    ]  # fmt: skip


def test_each_explorer_leaves_a_picture_where_nobody_can_touch_it(run: Run, tmp_path: Path) -> None:
    assert headless()
    for explorer in explorers(run, tmp_path):
        bundle = explorer._repr_mimebundle_()
        with Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))) as picture:
            assert min(picture.size) > 200
        assert "view" not in explorer.__dict__


def test_each_live_view_shows_a_state_that_code_sets(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQLAB_HEADLESS", "0")
    for explorer in explorers(run, tmp_path):
        assert "application/vnd.jupyter.widget-view+json" in explorer._repr_mimebundle_()
    codebook = opened(CodebookExplorer(run))
    codebook.state = {"code": 3, "epoch": 1}
    assert (codebook._view.code.value, codebook._view.epoch.value) == (3, 1)
    assert "code 3" in codebook._view.told.value


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ({"indx": 1}, "unknown indx"),
        ({"index": 32}, "index=32: must be a number from 0 to 31"),
        ({"index": "one"}, "from 0 to 31"),
        ({"run": "nobody"}, "run='nobody': must be one of"),
        ({"class": "cat"}, "class='cat'"),
        ({"grid": [[0, 1], [2]]}, "rows of equally many codes"),
        ({"grid": [[99] * 8] * 8}, "codes from 0 to 15"),
        ({"code": 16}, "from 0 to 15"),
        ({"tool": "axe"}, "pick, brush, swap"),
        ({"noise": 101}, "from 0 to 100"),
        ({"upload": "!"}, "base64"),
        ({"upload": base64.b64encode(b"text").decode()}, "not a PNG or JPEG"),
    ],
)
def test_a_state_that_cannot_be_is_refused_and_the_old_one_stays(run: Run, state: dict, told: str) -> None:
    explorer = ReconstructionExplorer(run)
    before = explorer.state
    with pytest.raises(InputError, match=told):
        explorer.state = state
    assert explorer.state == before
    explorer.change(**state)
    assert told in explorer.message
    assert "\n" not in explorer.message


def test_tools_change_the_codes_and_undo_takes_each_change_back(run: Run) -> None:
    explorer = ReconstructionExplorer(run, index=7)
    start = explorer.state["grid"]
    explorer.choose(2, 3)
    assert explorer.state["code"] == start[2][3]
    explorer.state = {"tool": "brush", "code": 5}
    explorer.choose(0, 0)
    explorer.choose(0, 1)
    assert explorer.state["grid"] == painted(painted(start, (0, 0), 5), (0, 1), 5)
    assert torch.equal(explorer.reconstruction, run.model().decode(torch.tensor(explorer.state["grid"])[None])[0])
    explorer.state = {"tool": "swap"}
    explorer.choose(4, 4)
    explorer.add_noise()
    explorer.reset()
    assert explorer.state["grid"] == start
    for _ in range(9):
        explorer.undo()
    assert explorer.state["grid"] == start
    explorer.state = {"index": 8}
    explorer.undo()
    assert explorer.state["index"] == 8


def test_edits_of_a_grid_do_what_they_say() -> None:
    grid = [[0, 1, 2], [2, 1, 0]]
    assert painted(grid, (1, 2), 7) == [[0, 1, 2], [2, 1, 7]]
    assert swapped(grid, 0, 2) == [[2, 1, 0], [0, 1, 2]]
    assert swapped(grid, 5, 1) == [[0, 5, 2], [2, 5, 0]]
    wide = [[3] * 50 for _ in range(20)]
    noisy = noised(wide, 30, 1000, seed=1)
    assert 290 <= changed_cells(wide, noisy) <= 300
    assert noised(wide, 30, 1000, seed=1) == noisy
    assert noised(wide, 0, 1000, seed=1) == wide


def test_the_same_image_goes_to_every_run(run: Run, other: Run) -> None:
    explorer = ReconstructionExplorer({"one": run, "two": other.folder}, index=4)
    image = explorer.image
    first = explorer.scores()
    explorer.state = {"run": "two"}
    assert torch.equal(explorer.image, image)
    assert explorer.scores()["psnr"] == pytest.approx(
        float(psnr(other.model()(image[None]).reconstruction.detach(), image[None])), abs=1e-4
    )
    assert explorer.scores() != first
    with pytest.raises(InputError, match="neither a Run"):
        ReconstructionExplorer([3])
    with pytest.raises(InputError, match="at least one Run"):
        ReconstructionExplorer([])


def test_a_run_that_vanishes_is_one_line(run: Run, tmp_path: Path) -> None:
    gone = Run.open(shutil.copytree(run.folder, tmp_path / "gone"))
    explorer = opened(ReconstructionExplorer({"here": run, "gone": gone}))
    shutil.rmtree(gone.folder)
    explorer.change(run="gone")
    assert "the folder is gone" in explorer.message
    assert explorer.state["run"] == "here"


def test_the_pictures_of_a_code_are_its_own(run: Run) -> None:
    tokenizer = Tokenizer(run)
    solid = tokenizer.model.decode(torch.full((1, 4, 4), 3))[0]
    assert torch.equal(tokenizer.code_patches[3], (solid[:, 8:12, 8:12] * 255).round().byte())
    code = int(tokenizer.token_counts().argmax())
    found = tokenizer.nearest_patches(code, 5)
    assert found.shape == (5, 3, 12, 12)
    grids = [tokenizer.encode(image.float() / 255) for image in tokenizer.data.test.pixels]
    whole = [
        image[:, row * 4 : row * 4 + 4, column * 4 : column * 4 + 4]
        for image, grid in zip(tokenizer.data.test.pixels, grids, strict=True)
        for row, column in (grid == code).nonzero().tolist()
    ]
    assert all(any(torch.equal(patch[:, 4:8, 4:8], other) for other in whole) for patch in found)


def test_tiles_stand_row_by_row() -> None:
    tiles = torch.arange(3, dtype=torch.uint8)[:, None, None, None].expand(3, 3, 2, 2)
    sheet = tile_images(tiles, columns=2)[0].tolist()
    assert sheet == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 255, 255], [2, 2, 255, 255]]
    assert tile_images(tiles, columns=3, gap=1).shape == (3, 3, 9)


def test_codes_go_by_use(run: Run) -> None:
    explorer = CodebookExplorer(run)
    order, counts = explorer.usage()
    assert explorer.state["code"] == Tokenizer(run).token_counts().argmax()
    explorer.state = {"code": int(order[0])}
    assert (counts[:-1] >= counts[1:]).all()
    explorer.step(2)
    assert explorer.state["code"] == order[2]
    explorer.step(-9)
    assert explorer.state["code"] == order[0]


def test_histograms_are_the_logged_ones_or_of_the_asked_transport(run: Run) -> None:
    explorer = GradientExplorer(run, step=2)
    assert explorer.histogram()[1].tolist() == run.angles()["angle_gradients"].iloc[2]
    explorer.state = {"transport": "straight_through"}
    middles, counts, told = explorer.histogram()
    assert counts[middles > 2].sum() == 0
    assert "straight_through" in told


def test_what_is_moved_in_the_plane_moves_the_gradient() -> None:
    plane = PlaneExplorer(points=[[0.0, 0.0]])
    plane.move("code", 6, (0.5, 0.5))
    plane.move("target", 0, (-1.0, 1.0))
    assert plane.state["codes"][6] == [0.5, 0.5]
    assert plane.plane.target == (-1.0, 1.0)
    with pytest.raises(InputError, match="both in"):
        plane.move("point", 0, (9.0, 0.0))
    with pytest.raises(InputError, match="codes"):
        plane.state = {"codes": "many"}


def test_samples_follow_the_prior_and_keep_what_is_given(run: Run) -> None:
    small = {"prior.kind": "transformer", "prior.epochs": 1, "prior.width": 16, "prior.layers": 1, "prior.heads": 2}
    prior = train(run.config.replace(**small), run.folder.parent, "cpu")
    explorer = SampleExplorer(prior, seed=3, temperature=0.7, top_k=5)
    drawn = sample_codes(
        prior.model(), 8, temperature=0.7, top_k=5, generator=torch.Generator().manual_seed(3)
    )  # fmt: skip
    assert torch.equal(explorer.codes(), drawn)
    explorer.keep_rows(4)
    kept = explorer.tokenizer.encode(explorer.image)
    assert (explorer.codes()[:, :4] == kept[:4]).all()
    explorer.toggle(7, 7)
    assert (explorer.codes()[:, 7, 7] == kept[7, 7]).all()
    assert opened(explorer)._view.given.cells[6] == [-1] * 8
    assert "image/png" in explorer._repr_mimebundle_()
    for state, told in (
        ({"given": [[2]]}, "8 rows of 8"),
        ({"label": "cow"}, "label='cow'"),
        ({"seed": -1}, "seed=-1"),
    ):
        with pytest.raises(InputError, match=told):
            explorer.state = state
    with pytest.raises(InputError, match="transformer prior"):
        SampleExplorer(run)
    with pytest.raises(InputError, match="VQ-VAE's Run"):
        ReconstructionExplorer(prior)


def test_a_live_training_stops_resumes_and_ends_with_the_weights_of_a_plain_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VQLAB_HEADLESS", "0")
    monkeypatch.setattr("vqlab.widgets.live._SECONDS_BETWEEN", 0)
    live = opened(LiveTraining(run.config, tmp_path, "cpu"))
    live.start()
    live.pause()
    assert not live.wait(300).finished
    assert live.state["status"] == "paused"
    assert live.run.provenance["step"] < 12
    live.state = {"status": "training"}
    assert same_weights(live.wait(300), run)
    assert live.state["status"] == "finished"
    assert live.reconstructions is not None
    told = run.metrics().query("kind != 'restart'")
    assert [row["step"] for row in live.rows] == told["step"].tolist()
    assert LiveTraining(run.config, tmp_path, "cpu").rows[-1]["psnr"] == told["psnr"].iloc[-1]
    with pytest.raises(InputError, match="is finished"):
        live.state = {"status": "training"}


def test_a_cell_run_twice_does_not_train_one_run_twice(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VQLAB_HEADLESS", "0")
    first, second = (LiveTraining(run.config, tmp_path, "cpu") for _ in range(2))
    first.start()
    with pytest.raises(InputError, match="another LiveTraining"):
        second.start()
    assert same_weights(first.wait(300), run)


def test_a_live_training_that_fails_says_why_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQLAB_HEADLESS", "0")
    live = opened(LiveTraining(tiny(), tmp_path, "nowhere"))
    live.start()
    live.wait(300)
    assert live.state["status"] == "failed"
    assert "device='nowhere'" in live.message
    live.device = "cpu"
    live.start()
    assert live.wait(300).finished


def test_without_widgets_a_live_training_prints_plain_lines(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); from test_training import tiny;"
        "from vqlab.widgets import LiveTraining; LiveTraining(tiny(), sys.argv[1], 'cpu').start()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)],
        capture_output=True, text=True, timeout=300, check=True, env=os.environ,
    )  # fmt: skip
    assert "step 1/12" in done.stderr
    assert Run.open(tmp_path / tiny().id).finished
