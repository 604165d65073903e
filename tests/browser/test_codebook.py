"""CodebookExplorer in a real JupyterLab."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lab_page import Notebook, keep
from playwright.sync_api import expect

from vqlab import Run

pytestmark = pytest.mark.browser


def test_epochs_bars_and_buttons_choose_and_the_pictures_follow(
    notebook: Callable[..., Notebook], runs: dict[str, Run]
) -> None:
    folder = str(runs["rotation"].folder)
    page = notebook(f"from vqlab.widgets import CodebookExplorer\nexplorer = CodebookExplorer({folder!r})\nexplorer")
    page.until("() => document.querySelector('img.vqlab-patches')?.naturalWidth > 0")
    page.redraws("usage", lambda: page.slide("epoch", "ArrowLeft"))
    page.changes("code-picture", lambda: page.page.get_by_role("button", name="less used").click())
    bar = page.widget("usage").locator(".bars .point").nth(8)
    page.changes("code-picture", lambda: bar.click(force=True))
    expect(page.widget("told")).to_contain_text("rank 8")
    code = page.widget("code").locator("input")
    code.fill("5")
    page.changes("code-picture", lambda: code.press("Enter"))
    page.changes("code-picture", lambda: page.run("explorer.state = {'code': 9}"))
    page.theme("JupyterLab Dark")
    keep(page, "codebook_dark")
    page.theme("JupyterLab Light")
