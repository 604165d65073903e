"""Take the pictures of the report, of the page of a Run and of the explorers that the README shows.

``python tests/browser/readme_pictures.py REPORT RUNS FOLDER``, after ``vqlab run --output REPORT --runs RUNS``.
FOLDER also receives each picture in the dark theme and for a page of 1024 pixels, to look at.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from lab_page import CHROMIUM_ARGUMENTS, LabServer, Notebook
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from vqlab import Config, Run
from vqlab.report import write_run_page

THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
WIDTHS = (1024, 1600)
EXPLORERS = {
    "reconstruction_explorer": "ReconstructionExplorer(runs, index=146)",
    "gradient_explorer": "GradientExplorer(runs)",
}


def main(report: Path, runs: Path, folder: Path) -> None:
    """Take all pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=CHROMIUM_ARGUMENTS)
        _take_pages(browser, report, runs, folder)
        _take_explorers(browser, runs, folder)
        browser.close()


def _variants() -> Iterator[tuple[str, int, str]]:
    """Theme, width and ending of the file name; the README's pictures have none."""
    for theme in THEMES:
        for width in WIDTHS:
            yield theme, width, "" if (theme, width) == ("light", 1600) else f"_{theme}_{width}"


def _take_pages(browser: Browser, report: Path, runs: Path, folder: Path) -> None:
    page_of_run = write_run_page(Run.open(runs / Config.profile("quick").id), folder / "run_page.html")
    for theme, width, ending in _variants():
        page = browser.new_page(viewport={"width": width, "height": 1280}, color_scheme=theme)  # type: ignore[arg-type]
        page.goto((report / "index.html").resolve().as_uri())
        _save(page, folder / f"report{ending}.png")
        page.goto(page_of_run.resolve().as_uri())
        page.locator("#thumbs button").nth(5).click()
        page.locator("#grid [role=gridcell]").nth(20).click()
        page.locator("#grid [role=gridcell]").nth(35).hover()
        _save(page.locator("body"), folder / f"run_page{ending}.png")
        page.close()
    page_of_run.unlink()


def _take_explorers(browser: Browser, runs: Path, folder: Path) -> None:
    base = Config.profile("quick")
    kinds = ("rotation", "straight_through")
    ids = {kind: str(runs.resolve() / base.replace(**{"quantizer.transport": kind}).id) for kind in kinds}
    cells = [f"from vqlab.widgets import GradientExplorer, ReconstructionExplorer\nruns = {ids!r}", *EXPLORERS.values()]
    root, home = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
    with closing(LabServer(root, home)) as lab:
        page = Notebook(browser.new_context(viewport={"width": 1600, "height": 2400}), lab, "explorers.ipynb", cells)
        page.run_all()
        for theme, width, ending in _variants():
            page.set_theme(THEMES[theme])
            page.page.set_viewport_size({"width": width, "height": 2400})
            page.page.wait_for_timeout(1500)
            for index, name in enumerate(EXPLORERS):
                _save(page.page.locator(".vqlab").nth(index), folder / f"{name}{ending}.png")


def _save(shown: Page | Locator, path: Path) -> None:
    """Save a picture with 256 colours, a fifth of the size."""
    shown.screenshot(path=path)
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
