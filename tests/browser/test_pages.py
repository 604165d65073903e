"""Pages of reports and of a Run: small, offline and interactive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from lab_page import MonitoredPage, save_screenshot
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from playwright.sync_api import BrowserContext, expect

from vqlab import Run, train
from vqlab.report import run_notebooks, write_run_page

pytestmark = pytest.mark.browser


@pytest.fixture
def offline_page(context: BrowserContext, request: pytest.FixtureRequest) -> Iterator[MonitoredPage]:
    page = MonitoredPage(context)
    context.set_offline(True)
    yield page
    save_screenshot(page, request.node.name)
    page.assert_clean()


def test_the_report_shows_static_widgets_and_interactive_plotly_figures_offline(
    offline_page: MonitoredPage, runs: dict[str, Run], tmp_path: Path
) -> None:
    cells = [
        f"run = {str(runs['rotation'].folder)!r}",
        "from vqlab.widgets import CodebookExplorer, GradientExplorer, ReconstructionExplorer",
        "ReconstructionExplorer(run)", "CodebookExplorer(run)", "GradientExplorer(run)",
        "from vqlab.plots import plane_explorer\nplane_explorer()", "plane_explorer()",
    ]  # fmt: skip
    parameters = new_code_cell("seed = 0", metadata={"tags": ["parameters"]})
    code = [new_code_cell(cell, metadata={"tags": ["headline"]}) for cell in cells]
    notebook = new_notebook(cells=[new_markdown_cell("# Widgets"), parameters, *code])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "00_widgets.ipynb")
    index, failed = run_notebooks({"seed": 1}, tmp_path / "report", print, folder=tmp_path)
    assert failed == 0
    assert (tmp_path / "report" / "00_widgets.html").stat().st_size < 5e6
    assert (tmp_path / "report" / "00_widgets.ipynb").stat().st_size < 5e6

    page = offline_page.page
    page.goto(index.as_uri())
    expect(page.locator(".card img")).to_have_count(1)
    page.get_by_role("link", name="Widgets").click()
    expect(page.locator("img[alt='No description has been provided for this image']")).to_have_count(3)
    plot = page.locator(".js-plotly-plot").first
    plot.locator(".scatterlayer path").first.wait_for(state="attached")
    before = plot.inner_html()
    plot.locator(".slider-rail-touch-rect").click(position={"x": 400, "y": 5})
    page.wait_for_function("old => document.querySelector('.js-plotly-plot').innerHTML !== old", arg=before)


def test_the_page_of_a_run_is_interactive_without_python(
    offline_page: MonitoredPage, runs: dict[str, Run], tmp_path: Path
) -> None:
    path = write_run_page(runs["rotation"], tmp_path / "run.html")
    assert path.stat().st_size < 5e6
    page = offline_page.page
    page.goto(path.as_uri())
    original = page.locator("#original").get_attribute("src")
    page.locator("#thumbs button").nth(5).click()
    assert page.locator("#original").get_attribute("src") != original
    cells = page.locator("#grid [role=gridcell]")
    cells.nth(20).click()
    code = cells.nth(20).get_attribute("data-code")
    expect(page.locator("#code")).to_contain_text(f"code {code} of 64")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    code = cells.nth(21).get_attribute("data-code")
    expect(page.locator("#code")).to_contain_text(f"code {code} of 64")
    bars = page.locator("#usage").inner_html()
    page.locator("#epoch").focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#usage").inner_html() != bars
    page.emulate_media(color_scheme="dark")
    save_screenshot(offline_page, "run_page_dark")
    page.emulate_media(color_scheme="light")


def test_the_pictures_of_a_page_keep_the_shape_of_the_images(
    offline_page: MonitoredPage, runs: dict[str, Run], tmp_path: Path
) -> None:
    shape = {"data.channels": 1, "data.height": 24, "data.width": 48, "data.train_limit": 64, "optim.epochs": 1}
    run = train(runs["rotation"].config.replace(**shape), tmp_path, "cpu")
    page = offline_page.page
    page.goto(write_run_page(run, tmp_path / "run.html").as_uri())
    expect(page.locator("#grid-caption")).to_contain_text("code grid, 6×12")
    for picture in ("#original", "#reconstruction", "#error", "#thumbs img >> nth=3", "#grid"):
        box = page.locator(picture).bounding_box()
        assert box is not None
        assert abs(box["width"] / box["height"] - 2) < 0.05, picture
