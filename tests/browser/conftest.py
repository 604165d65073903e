"""One Chromium, one JupyterLab server and two small Runs, shared by all browser tests.

Screenshots are written to tests/browser/shots; ``readme_pictures.py`` takes those of the README.
VQLAB_RUNS=FOLDER stores the Runs there and uses them again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed; pip install -e '.[test]'")
from lab_page import CHROMIUM_ARGUMENTS, LabServer, Notebook, save_screenshot
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

from vqlab import Config, Run, train

# Long, since the machine may have other work; no test measures time through this limit.
expect.set_options(timeout=60_000)

SMALL = {
    "data.train_limit": 1280, "data.test_limit": 64, "optim.batch_size": 64, "optim.epochs": 2, "model.hidden": 16,
    "model.residual_hidden": 8, "quantizer.num_codes": 64, "quantizer.dim": 16, "optim.learning_rate": 2e-3,
    "evaluation.log_every": 2,
}  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rounds", type=int, default=1, help="how often each project notebook is opened in JupyterLab")
    parser.addoption("--throttle", type=float, help="factor by which its page is slowed down; see test_notebooks.py")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    # The options exist only if the command names this folder or a file in it.
    option = metafunc.config.getoption
    if "round_number" in metafunc.fixturenames:
        metafunc.parametrize("round_number", range(option("--rounds", 1)), ids=lambda number: f"round{number + 1}")
    if "throttle" in metafunc.fixturenames:
        rate = option("--throttle", None)
        rates = [1, pytest.param(4, marks=pytest.mark.slow)] if rate is None else [rate]
        metafunc.parametrize("throttle", rates, ids=lambda factor: f"throttle{factor:g}")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium on this machine; apt-get install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, headless=True, args=CHROMIUM_ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabServer]:
    server = LabServer(tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("home"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def runs(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Train a Run for each of two transports."""
    root = os.environ.get("VQLAB_RUNS") or tmp_path_factory.mktemp("runs")
    base = Config.profile("paper", **SMALL)
    kinds = {"rotation": "rotation", "straight-through": "straight_through"}
    return {name: train(base.replace(**{"quantizer.transport": kind}), root, "cpu") for name, kind in kinds.items()}


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    new_context = browser.new_context(viewport={"width": 1280, "height": 1300})
    yield new_context
    new_context.close()


@pytest.fixture
def notebook(
    context: BrowserContext, lab: LabServer, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Notebook]]:
    """Open a notebook and run its cells; at the end of the test its page must be clean."""
    pages: list[Notebook] = []

    def open_notebook(*cells: str) -> Notebook:
        page = Notebook(context, lab, f"{request.node.name}.ipynb", list(cells))
        pages.append(page)
        page.run_all()
        return page

    yield open_notebook
    for page in pages:
        save_screenshot(page, request.node.name)
        page.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    for page in pages:
        page.assert_clean()
