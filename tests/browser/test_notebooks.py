"""The project's own notebooks in JupyterLab: Run All, then every chart and picture on the way down shows its data.

``--rounds N`` repeats each notebook N times, and ``--throttle RATE`` slows the page down by a factor; without it the
slow tests take 1 and 4. For all six notebooks, twenty rounds, on a slow page::

    pytest -m "slow or not slow" tests/browser/test_notebooks.py --rounds 20 --throttle 4
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import nbformat
import pytest
from lab_page import LabServer, MonitoredPage, Notebook, save_screenshot, write_notebook
from notebook_outputs import AT_END, IN_VIEW, OUTPUTS, PARTS
from playwright.sync_api import Browser, BrowserContext, Locator

from vqlab.report import notebooks_folder

pytestmark = pytest.mark.browser
# Two in every run of the tests; the others take minutes more (pytest -m slow).
NUMBERS = ["05", "13", *(pytest.param(number, marks=pytest.mark.slow) for number in ("00", "03", "07", "11"))]
WITH_CHARTS = ("03", "05", "13")
# Where the page is once it has drawn two frames.
SCROLLED = """node => new Promise((resolve) => {
  requestAnimationFrame(() => requestAnimationFrame(() => resolve(node.scrollTop)));
})"""
# Height that one turn of a mouse wheel scrolls, and the seconds in which what came into view must be drawn.
WHEEL, PATIENCE = 450, 15


@pytest.fixture(scope="module")
def quick_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of ``vqlab run`` if VQLAB_NOTEBOOK_RUNS names them; else each notebook trains what it lacks."""
    return Path(os.environ.get("VQLAB_NOTEBOOK_RUNS") or tmp_path_factory.mktemp("quick"))


def _copy(number: str, target: Path, runs: Path) -> str:
    source = next(notebooks_folder().glob(f"{number}_*.ipynb"))
    notebook = nbformat.read(source, as_version=4)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source += f"\nruns = {str(runs)!r}"
    nbformat.write(notebook, target / source.name)
    return source.name


class ProjectNotebook(Notebook):
    """One of the project's notebooks, open in JupyterLab."""

    def __init__(self, context: BrowserContext, server: LabServer, name: str, throttle: float = 1) -> None:
        MonitoredPage.__init__(self, context)
        self.name, self.patience, self.longest_wait = name, PATIENCE * throttle, 0.0
        context.new_cdp_session(self.page).send("Emulation.setCPUThrottlingRate", {"rate": throttle})
        self.open(server.url(name))

    def assert_clean(self) -> None:
        """As for any page, but ipywidgets may have reported a model that the page was too busy to find at first."""
        self.console_errors = [text for text in self.console_errors if "widget model not found" not in text]
        super().assert_clean()

    def restart_kernel(self) -> None:
        """Restart the kernel and clear the outputs."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
        self.wait_for_kernel()
        self.page.evaluate("() => window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")

    def expected(self) -> list[dict[str, Any]]:
        """What each cell should show: elements of the page by selector, and charts by content."""
        outputs = self.page.evaluate(OUTPUTS)
        cells, charts = json.loads(self.execute(PARTS.format(displayed=[output["widgets"] for output in outputs])))
        shown = [chart for cell in cells for chart in cell["charts"]]
        assert all(chart in shown for chart in charts), (self.name, "charts that no cell shows")
        for cell, output in zip(cells, outputs, strict=True):
            cell["elements"] |= {".jp-RenderedPlotly": output["plotly"], ".jp-RenderedImage img": output["pictures"]}
        return cells

    def wait_until_drawn(self, expected: list[dict[str, Any]]) -> list[list[Any]]:
        """Wait until every cell in view has what it should show; return its charts in view by cell and content."""
        problems, start = [], time.monotonic()
        while time.monotonic() - start < self.patience:
            state = self.page.evaluate(IN_VIEW, expected)
            other = [chart for cell, chart in state["charts"] if chart not in expected[cell]["charts"]]
            problems = state["problems"] + [f"a chart with other data than in the kernel: {chart}" for chart in other]
            if not problems:
                self.longest_wait = max(self.longest_wait, time.monotonic() - start)
                return state["charts"]
            self.page.wait_for_timeout(200)
        save_screenshot(self, f"empty_{Path(self.name).stem}")
        raise AssertionError(f"{self.name}: {problems}")

    def scroll(self, outer: Locator) -> None:
        """Turn the mouse wheel once, and wait until the page has moved: a slow one takes several turns together."""
        before = outer.evaluate("node => node.scrollTop")
        self.page.mouse.wheel(0, WHEEL)
        self.page.wait_for_timeout(150)
        end = time.monotonic() + self.patience
        while outer.evaluate(SCROLLED) == before and not self.page.evaluate(AT_END) and time.monotonic() < end:
            self.page.wait_for_timeout(100)

    def check(self) -> None:
        """Go through the notebook with the wheel, wait at each place, and compare its charts with the kernel's."""
        expected = self.expected()
        outer = self.page.locator(".jp-WindowedPanel-outer").first
        outer.evaluate("node => { node.scrollTop = 0; }")
        box = outer.bounding_box()
        assert box is not None
        self.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        seen = self.wait_until_drawn(expected)
        for _ in range(400):
            if self.page.evaluate(AT_END):
                break
            self.scroll(outer)
            seen += self.wait_until_drawn(expected)
        else:
            raise AssertionError(f"{self.name}: has no end")
        charts = [[index, chart] for index, cell in enumerate(expected) for chart in cell["charts"] if chart[1]]
        assert all(chart in seen for chart in charts), (self.name, [chart for chart in charts if chart not in seen])
        assert charts or self.name[:2] not in WITH_CHARTS, self.name


@pytest.fixture
def project_notebook(
    request: pytest.FixtureRequest, browser: Browser, lab: LabServer, quick_runs: Path, throttle: float
) -> Iterator[ProjectNotebook]:
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    name = _copy(request.param, lab.root, quick_runs)
    page = ProjectNotebook(context, lab, name, throttle)
    yield page
    save_screenshot(page, f"notebook_{request.param}")
    page.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    context.close()


@pytest.mark.parametrize("project_notebook", NUMBERS, indirect=True)
def test_every_chart_and_picture_of_a_notebook_shows_its_data(
    project_notebook: ProjectNotebook, lab: LabServer, round_number: int
) -> None:
    page = project_notebook
    page.run_all(seconds=400)
    page.check()
    page.save()
    page.open(lab.url(page.name))
    page.check()
    page.restart_kernel()
    page.run_all(seconds=400)
    page.check()
    page.assert_clean()
    print(f"{page.name}: waited at most {page.longest_wait:.1f} s at one place")


CHARTS = """
import ipywidgets
from vqlab.widgets.chart import Chart
upper, lower = Chart([("code", "tokens")]), Chart([("code", "tokens")])
for title, chart in {"upper": upper, "lower": lower}.items():
    chart.layout.height = "700px"
    chart.show([{"type": "bar", "x": [0, 1, 2], "y": [3, 1, 2]}], title_text=title)
box = ipywidgets.VBox([upper, lower])
box
"""
# What the kernel does without the page, whether the notebook is opened again after it, and what the check then says.
FAULTS = {
    "none": ("", True, None),
    "data withheld": ("lower.figure['data'].append({'type': 'bar', 'x': [0], 'y': [1]})", False, "other data"),
    "script withheld": ("chart.script._msg_callbacks.callbacks.clear()", True, "chart not drawn"),
    "chart lost": ("box._trait_values['children'] = (upper, lower, chart)", False, "2 of 3 .vqlab-chart"),
}


@pytest.mark.parametrize(("fault", "reopened", "message"), FAULTS.values(), ids=FAULTS)
def test_the_check_of_a_notebook_finds_a_chart_without_its_data(
    context: BrowserContext, lab: LabServer, fault: str, reopened: bool, message: str | None
) -> None:
    write_notebook(lab.root / "charts.ipynb", [CHARTS])
    page = ProjectNotebook(context, lab, "charts.ipynb")
    page.run_all()
    page.check()
    page.save()
    assert page.execute(fault) == ""
    if reopened:
        page.open(lab.url(page.name))
    page.patience = 10 if message is None else 3
    with nullcontext() if message is None else pytest.raises(AssertionError, match=message):
        page.check()
    page.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
