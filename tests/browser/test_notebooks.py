"""The project's own notebooks in JupyterLab: Run All, then every chart and picture on the way down shows its data.

``--rounds N`` repeats each notebook N times, and ``--throttle RATE`` slows the page down by a factor; without it the
slow tests take 1 and 4. For all six notebooks, twenty rounds, on a slow page::

    pytest -m "slow or not slow" tests/browser/test_notebooks.py --rounds 20 --throttle 4
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from lab_page import LabServer, MonitoredPage, Notebook, save_screenshot
from playwright.sync_api import Browser, BrowserContext

from vqlab.report import notebooks_folder

pytestmark = pytest.mark.browser
# Two in every run of the tests; the others take minutes more (pytest -m slow).
NUMBERS = ["05", "13", *(pytest.param(number, marks=pytest.mark.slow) for number in ("00", "03", "07", "11"))]
WITH_CHARTS = ("03", "05", "13")
# Height that one turn of a mouse wheel scrolls, and the time in which what came into view must be drawn.
WHEEL, PATIENCE = 450, 60
AT_END = "node => node.scrollTop + node.clientHeight > node.scrollHeight - 2"
# What is wrong with the charts and pictures of the notebook that are in view, and the charts in view by their content.
IN_VIEW = """() => {
  const panel = window.jupyterapp.shell.currentWidget.node;
  // What the scrolled area cuts off is not in view, even if it would fit into the window.
  const area = panel.querySelector('.jp-WindowedPanel-outer').getBoundingClientRect();
  const inView = (node) => {
    const box = node.getBoundingClientRect();
    return box.width > 0 && box.bottom > area.top && box.top < area.bottom;
  };
  const all = (selector) => [...panel.querySelectorAll(selector)].filter(inView);
  const problems = [], charts = [];
  for (const chart of all('.vqlab-chart')) {
    const traces = chart.data ?? [];
    const content = traces.map((trace) => [trace.type, trace.y?.length ?? 0]);
    const title = chart.layout?.title?.text ?? chart.layout?.annotations?.[0]?.text ?? '';
    charts.push(JSON.stringify([title, content]));
    if (!chart.dataset.revision) problems.push(`chart not drawn: ${chart.textContent.slice(0, 80)}`);
    const count = (type) => traces.filter((t) => t.type === type).reduce((sum, t) => sum + t.y.length, 0);
    const bars = chart.querySelectorAll('.barlayer .point').length;
    if (bars !== count('bar')) problems.push(`${title}: ${bars} of ${count('bar')} bars`);
    for (const line of traces.filter((t) => t.mode === 'lines' && t.y.length > 1)) {
      const drawn = [...chart.querySelectorAll('.scatterlayer .js-line')].some((path) => path.getAttribute('d'));
      if (!drawn) problems.push(`${title}: no line`);
    }
  }
  for (const bars of all('.vqlab-usage-bars')) {
    const drawn = [...(bars.querySelector('.bars').getAttribute('d') ?? '').matchAll(/v-([0-9]+)/g)];
    const title = bars.querySelector('.vqlab-usage-title').textContent;
    if (!drawn.length || !title) problems.push('a histogram without bars');
    charts.push(JSON.stringify([title, drawn.map((match) => Number(match[1]))]));
  }
  for (const plot of all('.jp-RenderedPlotly .js-plotly-plot')) {
    const marks = plot.querySelectorAll('.trace, .heatmaplayer image, .imagelayer image, .annotation').length;
    if (!marks) problems.push('a plotly output without marks');
  }
  for (const picture of all('.jp-OutputArea-output img')) {
    const hidden = picture.closest('[style*="display: none"]');
    if (!hidden && !picture.naturalWidth) problems.push(`picture without pixels: ${picture.className}`);
  }
  for (const field of all('svg.vqlab-plane path.field')) {
    if (!field.getAttribute('d')) problems.push('a plane without arrows');
  }
  for (const grid of all('.vqlab-codes')) {
    const sprite = grid.style.getPropertyValue('--sprite');
    if (!grid.querySelector('[data-code]') || sprite.length < 20) problems.push('a grid of codes without patches');
  }
  for (const node of all('.jp-OutputArea-output')) {
    if (node.querySelector('[transform*="NaN"]')) problems.push('NaN in a transform');
    if (/widget model not found|Error displaying widget/i.test(node.textContent)) problems.push(node.textContent);
    // A reopened notebook restores its widgets after its outputs are on the page.
    if (node.textContent.trim().startsWith('Loading widget')) problems.push('a widget that is still loading');
  }
  return { problems, charts };
}"""
# The charts of the kernel by their content.
CHARTS = """
import json as _json, warnings as _warnings, ipywidgets as _w
from vqlab.widgets.chart import Chart as _C
from vqlab.widgets.components import UsageBars as _U
def _content(c):
    layout = c.figure["layout"]
    title = layout["title"].get("text") or (layout.get("annotations") or [{"text": ""}])[0]["text"]
    return [title, [[t["type"], len(t["y"])] for t in c.figure["data"]]]
def _bars(u):
    return [u.content["title"], sorted((n for n in u.content["tokens"] if n), reverse=True)]
with _warnings.catch_warnings(action="ignore"):  # the registry of widgets is deprecated and has no successor
    _all = list(_w.Widget.widgets.values())
    print(_json.dumps([_content(c) for c in _all if isinstance(c, _C)] + [_bars(u) for u in _all if isinstance(u, _U)]))
"""


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
        self.name, self.throttle, self.patience = name, throttle, PATIENCE * throttle
        context.new_cdp_session(self.page).send("Emulation.setCPUThrottlingRate", {"rate": throttle})
        self.open(server.url(name))

    def open(self, url: str) -> None:
        """Open the notebook and wait for its kernel."""
        self.page.goto(url, wait_until="domcontentloaded", timeout=60_000)
        self.wait_for_kernel()
        self.page.wait_for_timeout(500 * (self.throttle - 1))

    def save(self) -> None:
        """Save the notebook with its outputs."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")

    def restart_kernel(self) -> None:
        """Restart the kernel and clear the outputs."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
        self.wait_for_kernel()
        self.page.evaluate("() => window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")

    def wait_until_drawn(self) -> set[str]:
        """Wait until nothing in view lacks its data; return the charts in view by their content."""
        state: dict[str, Any] = {}
        for _ in range(round(self.patience * 5)):
            state = self.page.evaluate(IN_VIEW)
            if not state["problems"]:
                return set(state["charts"])
            self.page.wait_for_timeout(200)
        save_screenshot(self, f"empty_{Path(self.name).stem}")
        raise AssertionError(f"{self.name}: {state['problems']}")

    def scroll_through(self) -> set[str]:
        """Scroll from the top to the end with the wheel; return all charts that were in view."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.scrollToItem(0)")
        outer = self.page.locator(".jp-WindowedPanel-outer").first
        box = outer.bounding_box()
        assert box is not None
        self.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        seen, turns_at_end = self.wait_until_drawn(), 0
        for _ in range(400):
            self.page.mouse.wheel(0, WHEEL)
            # A person waits for a slow page, too.
            self.page.wait_for_timeout(150 * self.throttle)
            seen |= self.wait_until_drawn()
            # A busy page may take the turn of the wheel later, or grow when a cell comes into view.
            turns_at_end = turns_at_end + 1 if outer.evaluate(AT_END) else 0
            if turns_at_end == 3:
                return seen
        raise AssertionError(f"{self.name}: has no end")

    def check(self) -> None:
        """Scroll through, and compare the charts on the page with those of the kernel."""
        seen = {json.dumps(json.loads(chart)) for chart in self.scroll_through()}
        expected = {json.dumps(chart) for chart in json.loads(self.execute(CHARTS)) if chart[1]}
        assert expected <= seen, (self.name, expected - seen)
        assert expected or self.name[:2] not in WITH_CHARTS, self.name


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
