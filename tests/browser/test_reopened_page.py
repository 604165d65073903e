"""A notebook with widgets is opened again in a page that is busy for longer than JupyterLab looks for their models."""

from __future__ import annotations

import pytest
from lab_page import LabServer, Notebook
from playwright.sync_api import BrowserContext

pytestmark = pytest.mark.browser

CELLS = [
    "from vqlab.widgets.reopened_page import show_again_when_reopened\nshow_again_when_reopened()",
    "import ipywidgets\nfrom IPython.display import display\n"
    "first = ipywidgets.IntSlider(description='first')\nsecond = ipywidgets.IntSlider(description='second')\n"
    "print('text')\ndisplay(first)\ndisplay(second)",
    "ipywidgets.VBox([first, ipywidgets.HTML('below')])",
]
# The page computes for 4.5 s when the states of the widgets arrive, and its overdue timers run after everything else.
BUSY = """
const onmessage = Object.getOwnPropertyDescriptor(WebSocket.prototype, "onmessage");
Object.defineProperty(WebSocket.prototype, "onmessage", { ...onmessage, set(handler) {
  onmessage.set.call(this, handler && ((event) => {
    const text = typeof event.data === "string" ? event.data : new TextDecoder().decode(event.data);
    const end = performance.now() + (text.includes("update_states") ? 4500 : 0);
    while (performance.now() < end);
    handler.call(this, event);
  }));
} });
const later = window.setTimeout;
window.setTimeout = (task, delay, ...values) => {
  const due = performance.now() + delay;
  return later(() => performance.now() > due + 1000 ? later(task, 800, ...values) : task(...values), delay);
};
"""
LOST = "() => document.body.innerText.split('model not found').length - 1"
SHOWN = "() => [...document.querySelectorAll('.jp-Cell')].map(cell => cell.querySelectorAll('.widget-slider').length)"


@pytest.mark.parametrize(
    "cells", [CELLS, pytest.param(CELLS[1:], marks=pytest.mark.slow)], ids=["vqlab", "ipywidgets_alone"]
)
def test_widgets_of_a_busy_page_are_shown_once_their_models_are_there(
    context: BrowserContext, lab: LabServer, cells: list[str]
) -> None:
    page = Notebook(context, lab, "reopened.ipynb", cells)
    page.run_all()
    page.save()
    page.page.add_init_script(BUSY)
    page.open(lab.url("reopened.ipynb"))
    page.wait_until(f"() => ({LOST})() === 3")
    if cells is CELLS:
        page.wait_until(f"() => ({LOST})() === 0")
        page.page.wait_for_timeout(2000)
        assert page.page.evaluate(SHOWN) == [0, 2, 1]
    else:
        page.page.wait_for_timeout(5000)
        assert page.page.evaluate(LOST) == 3, "JupyterLab looks again on its own: vqlab.widgets.reopened_page can go"
    page.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
