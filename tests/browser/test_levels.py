"""Runs with several codes a vector, and of fixed codes, in the explorers and in the page of a Run."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from code_marks import CODES, marked
from lab_page import MonitoredPage, Notebook, save_screenshot
from PIL import Image
from playwright.sync_api import BrowserContext, expect

from vqlab import Run, train
from vqlab.report import write_run_page

pytestmark = pytest.mark.browser

RESIDUAL = {"quantizer.family": "residual", "quantizer.levels": 4}
# The pixels of a picture in the page, 0…255.
PIXELS = """async name => {
  const picture = document.querySelector(`img.vqlab-${name}`);
  await picture.decode();
  const canvas = new OffscreenCanvas(picture.naturalWidth, picture.naturalHeight);
  const context = canvas.getContext('2d');
  context.drawImage(picture, 0, 0);
  return [...context.getImageData(0, 0, canvas.width, canvas.height).data].filter((_, index) => index % 4 < 3); }"""


@pytest.fixture(scope="module")
def residual(runs: dict[str, Run]) -> Run:
    run = runs["rotation"]
    return train(run.config.replace(**RESIDUAL), run.folder.parent, "cpu")


def pixels(page: Notebook, name: str) -> np.ndarray:
    """The picture as the page shows it, (H, W, 3)."""
    return np.array(page.page.evaluate(PIXELS, name), dtype=np.int64).reshape(32, 32, 3)


def decoded(page: Notebook, levels: str) -> np.ndarray:
    """The reconstruction that the model of the Run gives in Python for the codes of the explorer, (H, W, 3)."""
    content = page.execute(
        "import torch\n"
        f"grid = torch.tensor(explorer.state['grid'])[..., :{levels}]\n"
        "with torch.no_grad():\n"
        "    image = run.model().decode(grid[None])[0].clamp(0, 1)\n"
        "print((image * 255).round().int().permute(1, 2, 0).flatten().tolist())"
    )
    return np.array(json.loads(content)).reshape(32, 32, 3)


def assert_controls_apart(page: Notebook, width: int) -> None:
    """Assert that no control of the explorer lies outside of it or over another one."""
    boxes = page.page.evaluate(
        """() => [...document.querySelector('.vqlab').querySelectorAll('.vqlab-bar > *')]
          .filter(node => node.offsetWidth > 0).map(node => node.getBoundingClientRect())
          .map(box => [box.left, box.top, box.right, box.bottom])"""
    )
    outer = page.page.locator(".vqlab").first.bounding_box()
    assert outer is not None
    for index, (left, top, right, bottom) in enumerate(boxes):
        assert outer["x"] <= left < right <= outer["x"] + outer["width"], (width, boxes[index])
        for other in boxes[index + 1 :]:
            apart = right <= other[0] + 1 or other[2] <= left + 1 or bottom <= other[1] + 1 or other[3] <= top + 1
            assert apart, (width, boxes[index], other)


def test_an_edit_of_a_level_changes_the_picture_as_in_python(notebook: Callable[..., Notebook], residual: Run) -> None:
    page = notebook(
        f"from vqlab import Run\nrun = Run.open({str(residual.folder)!r})",
        "from vqlab.widgets import CodebookExplorer, ReconstructionExplorer\n"
        "explorer = ReconstructionExplorer(run)\nexplorer",
        "codebook = CodebookExplorer(run)\ncodebook",
    )
    page.wait_until("() => document.querySelectorAll('.vqlab-grid [role=gridcell]').length === 64")
    page.wait_until("() => document.querySelector('img.vqlab-patches')?.naturalWidth > 0")
    cells = page.page.locator(".vqlab-grid [role=gridcell]")
    assert np.abs(pixels(page, "reconstruction") - decoded(page, "4")).max() <= 1

    level = page.widget("place").locator("select")
    expect(page.widget("place")).to_contain_text("level")
    level.select_option("level 2")
    expect(page.widget("grid").locator("xpath=..")).to_contain_text("code grid, 8×8, level 2")
    start = page.execute("print(explorer.state['grid'])")
    shown = [int(code or -1) for code in cells.evaluate_all("nodes => nodes.map(node => node.dataset.code)")]
    assert shown == [codes[1] for row in json.loads(start) for codes in row]

    page.page.get_by_role("button", name="brush").click()
    palette = page.page.locator(".vqlab-palette [role=gridcell]")
    codes = [int(code) for code in palette.evaluate_all("nodes => nodes.map(node => node.dataset.code)")]
    number = next(index for index, code in enumerate(codes) if code not in (shown[9], shown[10]))
    palette.nth(number).click()
    for cell in (9, 10):
        page.expect_picture_change("reconstruction", cells.nth(cell).click)
    edited = np.array(json.loads(page.execute("print(explorer.state['grid'])")))
    differs = edited != np.array(json.loads(start))
    assert np.argwhere(differs).tolist() == [[1, 1, 1], [1, 2, 1]]
    assert np.abs(pixels(page, "reconstruction") - decoded(page, "4")).max() <= 1

    page.expect_picture_change("reconstruction", lambda: page.press_slider("levels", "Home"))
    assert np.abs(pixels(page, "reconstruction") - decoded(page, "1")).max() <= 1
    expect(page.widget("grid").locator("xpath=..")).to_contain_text("level 2 (not decoded)")
    page.expect_picture_change("reconstruction", lambda: page.press_slider("levels", "ArrowRight"))
    assert np.abs(pixels(page, "reconstruction") - decoded(page, "2")).max() <= 1
    page.press_slider("levels", "End")
    page.wait_until("() => !document.querySelector('.vqlab-figure:has(.vqlab-grid)').textContent.includes('decoded')")
    save_layouts(page, "residual_explorer")


def save_layouts(page: Notebook, name: str) -> None:
    """Look for controls over each other in a narrow and in a wide window, and take pictures of both."""
    for width in (1024, 1600):
        page.page.set_viewport_size({"width": width, "height": 1500})
        page.page.wait_for_timeout(500)
        page.widget("grid").scroll_into_view_if_needed()
        assert_controls_apart(page, width)
        save_screenshot(page, f"{name}_{width}")


def test_a_code_is_marked_in_both_explorers_of_the_same_level_only(
    notebook: Callable[..., Notebook], residual: Run
) -> None:
    folder = str(residual.folder)
    page = notebook(
        "from vqlab.widgets import CodebookExplorer, ReconstructionExplorer\n"
        f"explorer = ReconstructionExplorer({folder!r}, place='level 3')\nexplorer",
        f"codebook = CodebookExplorer({folder!r}, place='level 3')\ncodebook",
    )
    page.wait_until("() => document.querySelectorAll('.vqlab-grid [role=gridcell]').length === 64")
    page.wait_until("() => document.querySelector('img.vqlab-patches')?.naturalWidth > 0")
    page.page.set_viewport_size({"width": 1280, "height": 1900})
    cells = page.page.locator(".vqlab-grid [role=gridcell]")
    code = int(cells.nth(20).get_attribute("data-code") or -1)
    cells.nth(20).click()
    page.wait_until("code => document.querySelector('img.vqlab-code-picture').dataset.code === code", str(code))
    assert set(map(tuple, marked(page.page, "selected").values())) == {(code,)}
    page.expect_printed(CODES, str(code), str(code))

    page.page.locator(".vqlab-place select").nth(1).select_option("level 1")
    expect(page.widget("usage-title")).to_contain_text("codes of level 1 used")
    other = int(cells.nth(21).get_attribute("data-code") or -1)
    other, index = next(
        (int(found), index)
        for index, found in enumerate(cells.evaluate_all("nodes => nodes.map(node => node.dataset.code)"))
        if int(found) not in (code, other)
    )
    cells.nth(index).click()
    page.page.wait_for_timeout(500)
    assert marked(page.page, "selected")["palette"] == [other]
    assert marked(page.page, "selected")["bars"] == [code]
    page.expect_printed(CODES, str(other), str(code))


def test_the_page_of_a_residual_run_shows_each_level_and_what_it_adds(
    context: BrowserContext, residual: Run, tmp_path: Path
) -> None:
    opened = MonitoredPage(context)
    context.set_offline(True)
    page = opened.page
    page.goto(write_run_page(residual, tmp_path / "run.html").as_uri())
    page.wait_for_function("() => document.querySelector('img.vqlab-patches')?.naturalWidth > 0")
    cells = page.locator("#grid [role=gridcell]")
    grids = page.evaluate("() => data.images[0].grids")
    for number, name in enumerate(("level 1", "level 2", "level 3", "level 4")):
        page.locator("#place").select_option(name)
        shown = cells.evaluate_all("nodes => nodes.map(node => Number(node.dataset.code))")
        assert shown == [code for row in grids[number] for code in row]
        expect(page.locator("#grid-caption")).to_contain_text(f"code grid, 8×8, {name}")
        expect(page.locator("#palette-caption")).to_contain_text(f"64 codes of {name}")
        cells.nth(20).click()
        assert set(map(tuple, marked(page, "selected").values())) == {(shown[20],)}
        expect(page.locator("#code")).to_contain_text(f"code {shown[20]} of 64")
    model, image = residual.model(), residual.data().test.pixels[0].float() / 255
    page.locator("#levels").focus()
    for levels in (3, 2, 1):
        before = page.locator("#reconstruction").get_attribute("src")
        page.keyboard.press("ArrowLeft")
        content = page.locator("#reconstruction").get_attribute("src") or ""
        assert content != before
        expect(page.locator("#levels").locator("xpath=..")).to_contain_text(f"first {levels} of 4 levels")
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(content.partition(",")[2]))).convert("RGB"))
        expected = model.decode(model.encode(image[None])[..., :levels])[0].detach().clamp(0, 1).permute(1, 2, 0)
        assert np.abs(picture / 255 - expected.numpy()).max() < 0.6 / 255
    expect(page.locator("#grid-caption")).to_contain_text("level 4 (not decoded)")
    for width in (1024, 1600):
        page.set_viewport_size({"width": width, "height": 1300})
        save_screenshot(opened, f"residual_page_{width}")
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
        slider, panel = (page.locator(name).bounding_box() for name in ("#epoch", "main"))
        assert slider is not None
        assert panel is not None
        assert slider["x"] + slider["width"] <= panel["x"] + panel["width"] - 12, width
    opened.assert_clean()
