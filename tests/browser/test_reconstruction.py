"""ReconstructionExplorer in JupyterLab: every control updates the pictures."""

from __future__ import annotations

import io
import re
import shutil
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from lab_page import KERNEL_READY, Notebook, save_screenshot
from PIL import Image
from playwright.sync_api import expect

from vqlab import Run

pytestmark = pytest.mark.browser

# Time in the browser from the press on a cell to the decoded and displayed reconstruction.
CLICK_TO_PICTURE = """index => new Promise(resolve => {
  const picture = document.querySelector('img.vqlab-reconstruction');
  const cell = document.querySelectorAll('.vqlab-grid [role=gridcell]')[index];
  const start = performance.now();
  new MutationObserver((_, observer) => { observer.disconnect();
    picture.decode().then(() => requestAnimationFrame(() => resolve(performance.now() - start))); })
    .observe(picture, {attributes: true, attributeFilter: ['src']});
  cell.dispatchEvent(new PointerEvent('pointerdown', {bubbles: true, buttons: 1})); })"""


def open_explorer(notebook: Callable[..., Notebook], runs: dict[str, Run]) -> Notebook:
    folders = {name: str(run.folder) for name, run in runs.items()}
    page = notebook(
        f"from vqlab.widgets import ReconstructionExplorer\nexplorer = ReconstructionExplorer({folders!r})\nexplorer"
    )
    page.wait_until("() => document.querySelectorAll('.vqlab-grid [role=gridcell]').length === 64")
    page.wait_until("() => document.querySelector('img.vqlab-reconstruction')?.naturalWidth === 32")
    page.widget("grid").scroll_into_view_if_needed()
    return page


def test_images_codes_and_runs_update_the_pictures(notebook: Callable[..., Notebook], runs: dict[str, Run]) -> None:
    page = open_explorer(notebook, runs)
    keyboard = page.page.keyboard
    page.expect_picture_change("original", lambda: page.press_slider("index", "ArrowRight"))
    page.expect_picture_change("original", lambda: page.widget("class").locator("select").select_option("coffee"))
    page.expect_picture_change(
        "reconstruction", lambda: page.widget("run").locator("select").select_option("straight-through")
    )
    page.page.get_by_role("button", name="brush").click()
    page.page.locator(".vqlab-palette [role=gridcell]").nth(2).click()
    page.expect_picture_change(
        "reconstruction", lambda: page.page.locator(".vqlab-grid [role=gridcell]").nth(9).click()
    )
    page.page.locator(".vqlab-grid [role=gridcell]").nth(9).focus()
    keyboard.press("ArrowDown")
    page.expect_picture_change("reconstruction", lambda: keyboard.press("Enter"))
    scores = page.widget("scores").inner_text()
    assert "dB" in scores
    assert "SSIM" in scores
    page.expect_picture_change("reconstruction", lambda: page.page.get_by_role("button", name="undo").click())
    page.expect_picture_change("reconstruction", lambda: page.page.get_by_role("button", name="add noise").click())
    page.expect_picture_change("error", lambda: page.page.get_by_role("button", name="reset").click())
    page.expect_picture_change("original", lambda: page.execute("explorer.state = {'class': 'all', 'index': 33}"))
    page.expect_printed("print(explorer.state['index'])", "33")
    page.execute("explorer.state = {'class': 'coffee', 'index': 15, 'run': 'rotation', 'tool': 'brush', 'code': 19}")
    for index in (10, 11, 18, 19):
        page.expect_picture_change("reconstruction", page.page.locator(".vqlab-grid [role=gridcell]").nth(index).click)
    page.set_theme("JupyterLab Dark")
    save_screenshot(page, "reconstruction_dark")
    page.set_theme("JupyterLab Light")


@pytest.mark.timed
def test_a_code_edit_is_displayed_within_150_ms(
    notebook: Callable[..., Notebook], runs: dict[str, Run], capsys: pytest.CaptureFixture[str]
) -> None:
    page = open_explorer(notebook, runs)
    page.execute("explorer.state = {'tool': 'brush', 'code': 5}")
    times = []
    for index in range(40):
        reset = f"explorer.state = {{'code': {index % 2 + 1}, 'grid': [[0] * 8] * 8}}"
        page.expect_picture_change("reconstruction", partial(page.execute, reset))
        times.append(page.page.evaluate(CLICK_TO_PICTURE, index))
    median, slow = statistics.median(times), sorted(times)[-4]
    with capsys.disabled():
        print(f"\ncode edit to decoded picture in the browser: median {median:.0f} ms, 90 % under {slow:.0f} ms")
    assert median < 150


def _png(mode: str, size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, 128 if mode == "L" else (200, 40, 40, 90)[: len(mode)]).save(file, "PNG")
    return file.getvalue()


def test_invalid_uploads_give_a_message_and_valid_ones_are_shown(
    notebook: Callable[..., Notebook], runs: dict[str, Run]
) -> None:
    page = open_explorer(notebook, runs)
    chooser = page.page.get_by_label("your image")
    message = page.page.locator(".vqlab-message")

    def upload(name: str, content: bytes) -> None:
        chooser.set_input_files({"name": name, "mimeType": "image/png", "buffer": content})

    upload("note.png", b"not an image")
    expect(message).to_have_text("note.png: is not a PNG or JPEG image; choose another file")
    upload("huge.png", _png("L", (20_000, 5_000)))
    expect(message).to_contain_text("20000x5000 pixels, at most 50,000,000")
    upload("broken.png", _png("RGB", (40, 40))[:60])
    expect(message).to_contain_text("broken.png: is a damaged image")
    upload("photo.png", bytes(12_000_000))
    expect(message).to_have_text("photo.png: 12.0 MB: must be at most 9 MB; reduce the size of the image")
    page.expect_picture_change("original", lambda: upload("wide.png", _png("RGBA", (64, 48))))
    expect(message).to_contain_text("transparency replaced by white, cropped to the central square, resized to 32x32")
    page.expect_picture_change("original", lambda: upload("grey.png", _png("L", (32, 32))))
    expect(message).to_contain_text("grey to RGB")


def test_a_deleted_run_folder_gives_a_message_and_open_runs_still_work(
    notebook: Callable[..., Notebook], runs: dict[str, Run], tmp_path: Path
) -> None:
    copies = {}
    for name, run in runs.items():
        folder = shutil.copytree(run.folder, tmp_path / name)
        copies[name] = Run.open(folder)
    page = open_explorer(notebook, copies)
    for run in copies.values():
        shutil.rmtree(run.folder)
    page.widget("run").locator("select").select_option("straight-through")
    expect(page.page.locator(".vqlab-message")).to_contain_text("the folder does not exist")
    expect(page.widget("run").locator("select")).to_have_value("rotation")
    page.expect_picture_change("reconstruction", lambda: page.page.get_by_role("button", name="add noise").click())


def test_cells_can_be_run_again_after_a_kernel_restart(notebook: Callable[..., Notebook], runs: dict[str, Run]) -> None:
    page = open_explorer(notebook, runs)
    page.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    page.wait_until(KERNEL_READY)
    page.page.locator(".vqlab-grid [role=gridcell]").nth(3).click()
    expect(page.page.locator(".vqlab-grid .vqlab-codes")).to_have_attribute(
        "data-error", re.compile("run the cell again")
    )
    page.run_all()
    page.wait_until("() => document.querySelector('img.vqlab-reconstruction')?.naturalWidth === 32")
    page.expect_picture_change("reconstruction", lambda: page.page.get_by_role("button", name="add noise").click())
