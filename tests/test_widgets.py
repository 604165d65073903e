"""Explorers without a browser: state, error messages, static figures."""

from __future__ import annotations

import base64
import io
import re
import shutil
from pathlib import Path
from typing import Any, TypeVar

import comm
import pytest
import torch
from command_processes import run_program
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
from vqlab.widgets.chart import PlotlyScript
from vqlab.widgets.grid_edits import count_differences, randomise_codes, set_code, swap_codes


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tiny(), tmp_path_factory.mktemp("runs"), "cpu")


@pytest.fixture(scope="module")
def other(run: Run) -> Run:
    return train(tiny(**{"quantizer.transport": "straight_through"}), run.folder.parent, "cpu")


ExplorerT = TypeVar("ExplorerT", bound=Explorer)


def with_view(explorer: ExplorerT) -> ExplorerT:
    """Build the live view of the explorer, as JupyterLab does."""
    assert explorer.view is explorer.view
    return explorer


def all_explorers(run: Run, root: Path) -> list[Explorer]:
    return [
        ReconstructionExplorer(run), CodebookExplorer(run), GradientExplorer(run), PlaneExplorer(),
        LiveTraining(run.config, run.folder.parent, "cpu"), LiveTraining(tiny(seed=5), root, "cpu"),
    ]  # fmt: skip


def test_each_explorer_shows_a_static_figure_without_a_browser(run: Run, tmp_path: Path) -> None:
    assert headless()
    for explorer in all_explorers(run, tmp_path):
        bundle = explorer._repr_mimebundle_()
        with Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))) as picture:
            assert min(picture.size) > 200
        assert "view" not in explorer.__dict__


def test_each_live_view_shows_a_state_set_from_code(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQLAB_HEADLESS", "0")
    for explorer in all_explorers(run, tmp_path):
        assert "application/vnd.jupyter.widget-view+json" in explorer._repr_mimebundle_()
    codebook = with_view(CodebookExplorer(run))
    codebook.state = {"code": 3, "epoch": 1}
    assert (codebook._view.code.value, codebook._view.epoch.value) == (3, 1)
    assert codebook._view.link.code == codebook._view.patches.content["code"] == 3


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"indx": 1}, "unknown key indx"),
        ({"index": 32}, "index=32: must be a number from 0 to 31"),
        ({"index": "one"}, "from 0 to 31"),
        ({"run": "missing"}, "run='missing': must be one of"),
        ({"class": "cat"}, "class='cat'"),
        ({"grid": [[0, 1], [2]]}, "a list of equally many codes"),
        ({"grid": [[99] * 8] * 8}, "must be from 0 to 15"),
        ({"grid": [[0]]}, "must be (8, 8)"),
        ({"code": 16}, "from 0 to 15"),
        ({"tool": "axe"}, "pick, brush, swap"),
        ({"noise": 101}, "from 0 to 100"),
        ({"upload": "!"}, "base64"),
        ({"upload": base64.b64encode(b"text").decode()}, "not a PNG or JPEG"),
    ],
)
def test_an_invalid_state_is_refused_and_the_previous_one_stays(run: Run, state: dict, message: str) -> None:
    explorer = ReconstructionExplorer(run)
    before = explorer.state
    with pytest.raises(InputError, match=re.escape(message)):
        explorer.state = state
    assert explorer.state == before
    explorer.update_state(**state)
    assert message in explorer.message
    assert "\n" not in explorer.message


def test_tools_change_the_codes_and_undo_restores_them(run: Run) -> None:
    explorer = ReconstructionExplorer(run, index=7)
    start = explorer.state["grid"]
    explorer.apply_tool(2, 3)
    assert explorer.state["code"] == start[2][3]
    explorer.state = {"tool": "brush", "code": 5}
    explorer.apply_tool(0, 0)
    explorer.apply_tool(0, 1)
    assert explorer.state["grid"] == set_code(set_code(start, (0, 0), 5), (0, 1), 5)
    assert torch.equal(explorer.reconstruction, run.model().decode(torch.tensor(explorer.state["grid"])[None])[0])
    explorer.state = {"tool": "swap"}
    explorer.apply_tool(4, 4)
    explorer.add_noise()
    explorer.reset()
    assert explorer.state["grid"] == start
    for _ in range(9):
        explorer.undo()
    assert explorer.state["grid"] == start
    explorer.state = {"index": 8}
    explorer.undo()
    assert explorer.state["index"] == 8


def test_edits_return_a_changed_copy_of_the_grid() -> None:
    grid = [[0, 1, 2], [2, 1, 0]]
    assert set_code(grid, (1, 2), 7) == [[0, 1, 2], [2, 1, 7]]
    assert swap_codes(grid, 0, 2) == [[2, 1, 0], [0, 1, 2]]
    assert swap_codes(grid, 5, 1) == [[0, 5, 2], [2, 5, 0]]
    wide = [[3] * 50 for _ in range(20)]
    noisy = randomise_codes(wide, 30, 1000, seed=1)
    assert 290 <= count_differences(wide, noisy) <= 300
    assert randomise_codes(wide, 30, 1000, seed=1) == noisy
    assert randomise_codes(wide, 0, 1000, seed=1) == wide


def test_a_refused_state_keeps_the_edits_that_can_be_undone(run: Run) -> None:
    explorer = ReconstructionExplorer(run)
    start = explorer.state["grid"]
    explorer.state = {"grid": swap_codes(start, start[0][0], 15 - start[0][0])}
    explorer.update_state(index=3, tool="axe")
    explorer.undo()
    assert explorer.state["grid"] == start


def test_a_smaller_codebook_limits_the_selected_code(run: Run) -> None:
    small = train(tiny(**{"quantizer.num_codes": 8}), run.folder.parent, "cpu")
    explorer = ReconstructionExplorer({"large": run, "small": small}, code=15)
    explorer.state = {"run": "small"}
    assert explorer.state["code"] == 7


def test_all_runs_show_the_same_image(run: Run, other: Run) -> None:
    explorer = ReconstructionExplorer({"one": run, "two": other.folder}, index=4)
    image = explorer.image
    first = explorer.scores()
    explorer.state = {"run": "two"}
    assert torch.equal(explorer.image, image)
    assert explorer.scores()["psnr"] == pytest.approx(
        float(psnr(other.model()(image[None]).reconstruction.detach(), image[None])), abs=1e-4
    )
    assert explorer.scores() != first
    with pytest.raises(InputError, match="entry 3: must be a Run"):
        ReconstructionExplorer([3])
    with pytest.raises(InputError, match="at least one Run"):
        ReconstructionExplorer([])


def test_a_deleted_run_folder_is_a_message_of_one_line(run: Run, tmp_path: Path) -> None:
    deleted = Run.open(shutil.copytree(run.folder, tmp_path / "deleted"))
    explorer = with_view(ReconstructionExplorer({"kept": run, "deleted": deleted}))
    shutil.rmtree(deleted.folder)
    explorer.update_state(run="deleted")
    assert "the folder does not exist" in explorer.message
    assert explorer.state["run"] == "kept"


def test_patches_of_a_code_show_that_code(run: Run) -> None:
    tokenizer = Tokenizer(run)
    solid = tokenizer.model.decode(torch.full((1, 4, 4), 3))[0]
    assert torch.equal(tokenizer.code_patches[3], (solid[:, 8:12, 8:12] * 255).round().byte())
    code = int(tokenizer.token_counts().argmax())
    patches = tokenizer.nearest_patches(code, 5)
    assert patches.shape == (5, 3, 12, 12)
    grids = [tokenizer.encode(image.float() / 255) for image in tokenizer.data.test.pixels]
    candidates = [
        image[:, row * 4 : row * 4 + 4, column * 4 : column * 4 + 4]
        for image, grid in zip(tokenizer.data.test.pixels, grids, strict=True)
        for row, column in (grid == code).nonzero().tolist()
    ]
    assert all(any(torch.equal(patch[:, 4:8, 4:8], other) for other in candidates) for patch in patches)


def test_tiles_are_arranged_row_by_row() -> None:
    tiles = torch.arange(3, dtype=torch.uint8)[:, None, None, None].expand(3, 3, 2, 2)
    sheet = tile_images(tiles, columns=2)[0].tolist()
    assert sheet == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 255, 255], [2, 2, 255, 255]]
    assert tile_images(tiles, columns=3, gap=1).shape == (3, 3, 9)


def test_codes_are_sorted_by_usage(run: Run) -> None:
    explorer = CodebookExplorer(run)
    order, counts = explorer.usage()
    assert explorer.state["code"] == Tokenizer(run).token_counts().argmax()
    explorer.state = {"code": int(order[0])}
    assert (counts[:-1] >= counts[1:]).all()
    explorer.move_rank(2)
    assert explorer.state["code"] == order[2]
    explorer.move_rank(-9)
    assert explorer.state["code"] == order[0]


def test_histograms_are_logged_or_computed_for_the_selected_transport(run: Run) -> None:
    explorer = GradientExplorer(run, step=2)
    assert explorer.histogram()[1].tolist() == run.angles()["angle_gradients"].iloc[2]
    explorer.state = {"transport": "straight_through"}
    centres, counts, caption = explorer.histogram()
    assert counts[centres > 2].sum() == 0
    assert "straight_through" in caption


def test_moving_a_code_or_the_target_changes_the_plane() -> None:
    plane = PlaneExplorer(points=[[0.0, 0.0]])
    plane.move("code", 6, (0.5, 0.5))
    plane.move("target", 0, (-1.0, 1.0))
    assert plane.state["codes"][6] == [0.5, 0.5]
    assert plane.plane.target == (-1.0, 1.0)
    with pytest.raises(InputError, match="both coordinates in"):
        plane.move("point", 0, (9.0, 0.0))
    with pytest.raises(InputError, match="codes"):
        plane.state = {"codes": "many"}


def test_samples_equal_those_of_the_prior_and_keep_the_known_codes(run: Run) -> None:
    small = {"prior.kind": "transformer", "prior.epochs": 1, "prior.width": 16, "prior.layers": 1, "prior.heads": 2}
    prior = train(run.config.replace(**small), run.folder.parent, "cpu")
    explorer = SampleExplorer(prior, seed=3, temperature=0.7, top_k=5)
    codes = sample_codes(prior.model(), 8, temperature=0.7, top_k=5, generator=torch.Generator().manual_seed(3))
    assert torch.equal(explorer.codes(), codes)
    explorer.keep_rows(4)
    kept = explorer.tokenizer.encode(explorer.image)
    assert (explorer.codes()[:, :4] == kept[:4]).all()
    explorer.toggle(7, 7)
    assert (explorer.codes()[:, 7, 7] == kept[7, 7]).all()
    assert with_view(explorer)._view.known.cells[6] == [-1] * 8
    assert "image/png" in explorer._repr_mimebundle_()
    for state, message in (
        ({"known": [[2]]}, "8 rows of 8"),
        ({"label": "cow"}, "label='cow'"),
        ({"seed": -1}, "seed=-1"),
    ):
        with pytest.raises(InputError, match=message):
            explorer.state = state
    with pytest.raises(InputError, match="transformer prior"):
        SampleExplorer(run)
    with pytest.raises(InputError, match="VQ-VAE's Run"):
        ReconstructionExplorer(prior)


def test_a_paused_and_resumed_live_training_gives_the_weights_of_an_uninterrupted_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VQLAB_HEADLESS", "0")
    monkeypatch.setattr("vqlab.widgets.live._REDRAW_INTERVAL", 0)
    live = with_view(LiveTraining(run.config, tmp_path, "cpu"))
    live.start()
    live.pause()
    assert not live.wait(300).finished
    assert live.state["status"] == "paused"
    assert live.run.provenance["step"] < 12
    live.state = {"status": "training"}
    assert same_weights(live.wait(300), run)
    assert live.state["status"] == "finished"
    assert live.reconstructions is not None
    logged = run.metrics().query("kind != 'restart'")
    assert [row["step"] for row in live.rows] == logged["step"].tolist()
    assert LiveTraining(run.config, tmp_path, "cpu").rows[-1]["psnr"] == logged["psnr"].iloc[-1]
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


def test_a_failed_live_training_reports_its_error_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQLAB_HEADLESS", "0")
    live = with_view(LiveTraining(tiny(), tmp_path, "nowhere"))
    live.start()
    live.wait(300)
    assert live.state["status"] == "failed"
    assert "device='nowhere'" in live.message
    live.device = "cpu"
    live.start()
    assert live.wait(300).finished


def test_without_a_browser_a_live_training_prints_progress_lines(tmp_path: Path) -> None:
    code = (
        "import sys; from test_training import tiny;"
        "from vqlab.widgets import LiveTraining; LiveTraining(tiny(), sys.argv[1], 'cpu').start()"
    )
    assert "step 1/12" in run_program(code, str(tmp_path)).stderr
    assert Run.open(tmp_path / tiny().id).finished


def test_plotly_is_sent_when_its_widget_is_created_and_where_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[dict[str, Any]] = []
    create = comm.create_comm
    monkeypatch.setattr("comm.create_comm", lambda **message: opened.append(message) or create(**message))
    script = PlotlyScript("function plot() {}")
    assert opened[0]["data"]["state"]["source"] == "function plot() {}"
    assert "source" not in script.get_state()
    assert script.get_state("source") == {"source": "function plot() {}"}
