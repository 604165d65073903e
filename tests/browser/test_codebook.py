"""CodebookExplorer in JupyterLab."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lab_page import Notebook, save_screenshot
from playwright.sync_api import expect

from vqlab import Run

pytestmark = pytest.mark.browser


def test_epoch_bars_and_buttons_select_a_code_and_update_the_pictures(
    notebook: Callable[..., Notebook], runs: dict[str, Run]
) -> None:
    folder = str(runs["rotation"].folder)
    page = notebook(f"from vqlab.widgets import CodebookExplorer\nexplorer = CodebookExplorer({folder!r})\nexplorer")
    page.wait_until("() => document.querySelector('img.vqlab-patches')?.naturalWidth > 0")
    page.expect_bars_change(lambda: page.press_slider("epoch", "ArrowLeft"))
    page.expect_picture_change("code-picture", lambda: page.page.get_by_role("button", name="less used").click())
    plot = page.widget("usage-plot")
    box = plot.bounding_box()
    assert box is not None
    ninth_bar = {"x": box["width"] * 8.5 / 64, "y": box["height"] - 2}
    page.expect_picture_change("code-picture", lambda: plot.click(position=ninth_bar))
    expect(page.page.locator(".vqlab-decoded + figcaption")).to_contain_text("rank 8")
    expect(page.widget("usage-code")).to_contain_text("rank 8")
    code = page.widget("code-number").locator("input")
    # Not before the kernel has written the number of the code that the bar selected.
    expect(code).to_have_value(page.page.locator("img.vqlab-code-picture").get_attribute("data-code") or "")
    code.fill("5")
    page.expect_picture_change("code-picture", lambda: code.press("Enter"))
    page.expect_picture_change("code-picture", lambda: page.execute("explorer.state = {'code': 9}"))
    page.set_theme("JupyterLab Dark")
    save_screenshot(page, "codebook_dark")
    page.set_theme("JupyterLab Light")
