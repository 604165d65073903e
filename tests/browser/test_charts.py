"""A chart in JupyterLab whose kernel does not answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lab_page import KERNEL_READY, LabServer, Notebook

pytestmark = pytest.mark.browser
CHART = """
from vqlab.widgets.chart import Chart
chart = Chart([("code", "tokens")])
chart.show([{"type": "bar", "x": [0, 1, 2], "y": [3, 1, 2]}])
chart
"""
DRAWN = "() => document.querySelectorAll('.vqlab-chart[data-revision] .barlayer .point').length === 3"


def test_charts_of_a_restarted_kernel_are_drawn_though_the_one_before_never_sent_plotly(
    notebook: Callable[..., Notebook], lab: LabServer, request: pytest.FixtureRequest
) -> None:
    page = notebook(CHART)
    page.wait_until(DRAWN)
    page.save()
    # As a kernel that computes, and is restarted before it comes to the page's request.
    page.execute("chart.script._msg_callbacks.callbacks.clear()")
    page.page.goto(lab.url(f"{request.node.name}.ipynb"), wait_until="domcontentloaded")
    page.wait_for_kernel()
    page.wait_until("() => document.querySelector('.vqlab-chart')")
    page.page.wait_for_timeout(1000)
    assert not page.page.evaluate(DRAWN)
    page.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    page.wait_until(KERNEL_READY)
    page.page.evaluate("() => window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
    page.run_all()
    page.wait_until(DRAWN, seconds=20)
