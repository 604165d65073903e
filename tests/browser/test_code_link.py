"""A code has one identity: hovered, focused or chosen in one view, it is marked in all views of its codebook."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from code_marks import CODES, marked, milliseconds_until_marked
from lab_page import MonitoredPage, Notebook, save_screenshot
from playwright.sync_api import BrowserContext

from vqlab import Run
from vqlab.report import write_run_page

pytestmark = [pytest.mark.browser, pytest.mark.timed]

LIMIT_MS = 50  # from an input to the last marked code, for every single input
# The call keeps Python's lock, so that no thread of the kernel can answer either.
BUSY = """() => { window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute(
  {code: 'import ctypes; ctypes.PyDLL(None).sleep(6)'}); }"""


@pytest.fixture
def page_of_run(context: BrowserContext, runs: dict[str, Run], tmp_path: Path) -> Iterator[MonitoredPage]:
    page = MonitoredPage(context)
    context.set_offline(True)
    page.page.goto(write_run_page(runs["rotation"], tmp_path / "run.html").as_uri())
    page.page.wait_for_function("() => document.querySelector('img.vqlab-patches')?.naturalWidth > 0")
    yield page
    page.assert_clean()


def test_explorers_of_a_run_mark_a_code_together_while_the_kernel_is_busy(
    notebook: Callable[..., Notebook], runs: dict[str, Run], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(runs["rotation"].folder)
    page = notebook(
        "from vqlab.widgets import CodebookExplorer, ReconstructionExplorer\n"
        f"explorer = ReconstructionExplorer({folder!r})\nexplorer",
        f"codebook = CodebookExplorer({folder!r})\ncodebook",
    )
    lab = page.page
    lab.set_viewport_size({"width": 1280, "height": 1900})
    cells = lab.locator(".vqlab-grid [role=gridcell]")
    page.wait_until("() => document.querySelector('img.vqlab-patches')?.naturalWidth > 0")
    lab.evaluate(BUSY)
    code = int(cells.nth(20).get_attribute("data-code") or -1)
    times = [milliseconds_until_marked(lab, cells.nth(index).hover) for index in (3, 30, 44, 9, 20)]
    assert marked(lab, "lit").items() >= {"grid": [code], "palette": [code], "bars": [code]}.items()
    times.append(milliseconds_until_marked(lab, cells.nth(20).click))
    expected = {"grid": [code], "palette": [code], "bars": [code]}
    assert marked(lab, "selected").items() >= expected.items()
    page.expect_printed(CODES, str(code), str(code))
    # Captions and patches come from the kernel; they name the code as soon as it answers.
    page.wait_until("code => document.querySelector('img.vqlab-code-picture').dataset.code === code", str(code))
    assert set(map(tuple, marked(lab, "selected").values())) == {(code,)}

    bars = lab.locator(".vqlab-usage-plot")
    bars.focus()
    times.append(milliseconds_until_marked(lab, lambda: lab.keyboard.press("Home")))
    most_used = marked(lab, "lit")["bars"]
    assert marked(lab, "lit")["palette"] == most_used
    lab.evaluate(BUSY)
    times.append(milliseconds_until_marked(lab, lambda: lab.keyboard.press("Enter")))
    assert marked(lab, "selected")["palette"] == most_used
    page.expect_printed(CODES, str(most_used[0]), str(most_used[0]))
    # A choice in the kernel is a choice as well.
    page.execute("explorer.state = {'code': 11}")
    page.wait_until("() => document.querySelector('img.vqlab-code-picture').dataset.code === '11'")
    page.expect_printed(CODES, "11", "11")
    with capsys.disabled():
        print(f"\ninput to the last marked code in JupyterLab: {', '.join(f'{time:.1f}' for time in times)} ms")
    assert max(times) < LIMIT_MS


def test_the_page_of_a_run_marks_a_code_everywhere(
    page_of_run: MonitoredPage, capsys: pytest.CaptureFixture[str]
) -> None:
    page = page_of_run.page
    cells = page.locator("#grid [role=gridcell]")
    selected = int(page.locator("img.vqlab-code-picture").get_attribute("data-code") or -1)
    times = [milliseconds_until_marked(page, page.locator("#grid-caption .vqlab-code-name").focus)]
    page.keyboard.press("Shift+Tab")
    times.append(milliseconds_until_marked(page, lambda: page.keyboard.press("Tab")))
    assert set(map(tuple, marked(page, "lit").values())) == {(selected,)}
    assert set(marked(page, "lit")) == {"grid", "palette", "caption", "patch", "bars"}
    code = int(cells.nth(13).get_attribute("data-code") or -1)
    times += [milliseconds_until_marked(page, cells.nth(index).hover) for index in (30, 44, 9, 13)]
    assert marked(page, "lit")["palette"] == marked(page, "lit")["bars"] == [code]
    save_screenshot(page_of_run, "run_page_lit")
    page.locator(".vqlab-usage-plot").focus()
    times.append(milliseconds_until_marked(page, lambda: page.keyboard.press("ArrowRight")))
    lit = marked(page, "lit")["bars"]
    times.append(milliseconds_until_marked(page, lambda: page.keyboard.press("Enter")))
    assert set(map(tuple, marked(page, "selected").values())) == {tuple(lit)}
    with capsys.disabled():
        print(f"\ninput to the last marked code in the page of a Run: {', '.join(f'{time:.1f}' for time in times)} ms")
    assert max(times) < LIMIT_MS
