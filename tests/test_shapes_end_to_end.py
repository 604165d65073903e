"""A grey 28x28 set and a colour 64x96 set through the commands and the explorers."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from vqlab import Run
from vqlab.cli import app
from vqlab.plots import completions, image_row, interpolations, reconstructions, sample_grids
from vqlab.report import images_finding, reconstruction_finding
from vqlab.widgets import CodebookExplorer, LiveTraining, ReconstructionExplorer, SampleExplorer

_SMALL = {
    "model.hidden": 16, "model.residual_hidden": 8, "quantizer.num_codes": 32, "quantizer.dim": 8,
    "optim.epochs": 3, "optim.batch_size": 8,
}  # fmt: skip
_PRIOR = {"prior.kind": "transformer", "prior.width": 16, "prior.layers": 1, "prior.heads": 2, "prior.epochs": 1}


class Lab(NamedTuple):
    """A trained set."""

    shape: tuple[int, int, int]
    run: Run
    prior: Run


def command(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def settings(values: dict[str, Any]) -> list[str]:
    return [word for key, value in values.items() for word in ("--set", f"{key}={json.dumps(value)}")]


def digit(label: int, random: np.random.Generator) -> Image.Image:
    """White strokes on black, as handwritten digits are published: 28×28 pixels, one channel."""
    image = Image.new("L", (28, 28))
    x, y = random.integers(-3, 4, 2).tolist()
    strokes = [[(14, 5), (14, 22)], [(8, 6), (20, 6), (12, 22)]][label]
    ImageDraw.Draw(image).line([(left + x, top + y) for left, top in strokes], fill=255, width=3)
    return image


def view(label: int, random: np.random.Generator) -> Image.Image:
    """A disc on a gradient: 96 pixels wide, 64 high, three channels."""
    colour = np.array([(230, 120, 40), (30, 90, 200)][label])
    rows = np.linspace(0.5, 1, 64)[:, None, None] * colour
    image = Image.fromarray(np.broadcast_to(rows, (64, 96, 3)).astype(np.uint8))
    x, y = random.integers(12, 52, 2).tolist()
    ImageDraw.Draw(image).ellipse((x - 8, y - 8, x + 8, y + 8), fill=tuple(random.integers(0, 256, 3).tolist()))
    return image


@pytest.fixture(scope="module", params=["digits", "views"])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    root = tmp_path_factory.mktemp(request.param)
    draw, shape = {"digits": (digit, (1, 28, 28)), "views": (view, (3, 64, 96))}[request.param]
    random = np.random.default_rng(0)
    for number in range(40):
        part, label = "test" if number % 5 == 0 else "train", number % 2
        path = root / request.param / part / "ab"[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(label, random).save(path)
    size = {"data.channels": shape[0], "data.height": shape[1], "data.width": shape[2]}
    words = ["--data", f"folder:{root / request.param}", "--runs", str(root / "runs"), "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VQLAB_CACHE", str(root / "cache"))
        folders = [
            command("train", *words, *settings({**size, **_SMALL, **prior})).split()[-1] for prior in ({}, _PRIOR)
        ]
        yield Lab(shape, *map(Run.open, folders))


def picture_of(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def test_evaluation_measures_pixels_and_features(lab: Lab) -> None:
    columns = json.loads(command("evaluate", str(lab.run.folder), "--device", "cpu"))
    grid = lab.run.config.grid
    assert grid == (lab.shape[1] // 4, lab.shape[2] // 4)
    assert columns["tokens"] == columns["images"] * grid[0] * grid[1] == 8 * grid[0] * grid[1]
    assert columns["psnr"] > 8
    assert 0 <= columns["ssim"] <= 1
    assert np.isfinite(columns["rfd_classifier"])
    sampled = json.loads(command("evaluate", str(lab.prior.folder), "--device", "cpu"))
    assert np.isfinite(sampled["sample_fd_classifier"])
    assert re.search("no symptom found|likely cause", command("doctor", str(lab.run.folder)))


def test_the_data_are_described_with_a_contact_sheet(lab: Lab, tmp_path: Path) -> None:
    channels, height, width = lab.shape
    source, sheet = lab.run.config.data.source.removeprefix("folder:"), tmp_path / "sheet.png"
    size = settings({"data.channels": channels, "data.height": height, "data.width": width})
    described = command("data", source, *size, "--sheet", str(sheet))
    colour = {1: "grey", 3: "colour"}[channels]
    assert f"given to a model: {width}x{height} pixels (width x height), {colour}, data.fit=crop" in described
    assert ("all images are grey: data.channels=1" in command("data", source)) == (channels == 1)
    with Image.open(sheet) as image:
        assert image.size == (16 * (width + 4), 2 * (height + 4))


def test_the_page_of_a_run_has_pictures_of_its_shape(lab: Lab, tmp_path: Path) -> None:
    channels, height, width = lab.shape
    page = tmp_path / "page.html"
    command("explore", str(lab.run.folder), "--output", str(page))
    found = re.search(r"const data = (\{.*\});\n", page.read_text())
    assert found
    data = json.loads(found[1])
    for image in data["images"]:
        assert np.array(image["grids"]).shape == (1, *lab.run.config.grid)
        (decoded,) = image["decoded"]
        for url in (image["original"], decoded["reconstruction"], decoded["error"]):
            assert picture_of(url).size == (width, height)
        assert picture_of(image["original"]).mode == {1: "L", 3: "RGB"}[channels]
    original = np.asarray(picture_of(data["images"][0]["original"]).convert("RGB"))
    expected = lab.run.data().test.pixels[data["images"][0]["index"]].expand(3, -1, -1).permute(1, 2, 0)
    assert np.array_equal(original, expected.numpy())


def test_samples_are_drawn_to_a_picture(lab: Lab, tmp_path: Path) -> None:
    output = tmp_path / "samples.png"
    command("sample", str(lab.prior.folder), "--count", "10", "--output", str(output), "--device", "cpu")
    with Image.open(output) as picture:
        assert picture.size == (8 * lab.shape[2], 2 * lab.shape[1])


def test_explorers_show_edit_and_complete_the_images(lab: Lab) -> None:
    explorer = ReconstructionExplorer(lab.run)
    rows, columns = lab.run.config.grid
    explorer.state = {"tool": "brush", "code": 3}
    explorer.apply_tool(rows - 1, columns - 1)
    assert explorer.state["grid"][-1][-1] == 3
    assert explorer.reconstruction.shape == explorer.image.shape == lab.shape
    assert len(explorer.figure().axes[3].texts) == (rows * columns if columns <= 16 else 0)
    file = io.BytesIO()
    Image.new("RGB", (200, 100), (250, 120, 10)).save(file, "PNG")
    explorer.load_upload(file.getvalue(), "wide.png")
    assert explorer.image.shape == lab.shape
    assert ("converted to grey" in explorer.message) == (lab.shape[0] == 1)
    samples = SampleExplorer(lab.prior)
    samples.keep_rows(rows // 2)
    samples.toggle(rows - 1, columns - 1)
    assert samples.images().shape == (8, *lab.shape)
    for shown in (explorer, samples, CodebookExplorer(lab.run), LiveTraining(lab.run.config, lab.run.folder.parent)):
        assert shown.view is shown.view
        assert shown.figure().axes
    assert explorer._view.grid_caption.content["parts"][0].startswith(f"code grid, {rows}×{columns}\n")


def test_figures_and_findings_are_drawn(lab: Lab) -> None:
    data = lab.run.data()
    figures = [image_row(data.train), reconstructions(lab.run), interpolations(lab.run), completions(lab.prior)]
    figures.append(sample_grids({"prior": lab.prior}, count=4, rows=1))
    for figure in figures:
        pixels = figure.axes[0].images[0].get_array()
        assert pixels.shape[-1] == 3
        figure.canvas.draw()
    channels, height, width = lab.shape
    assert f"of {height} × {width} pixels" in images_finding(data).sentence
    assert f"{8 * channels * height * width:,} bits" in reconstruction_finding(lab.run).sentence
