"""SampleExplorer in JupyterLab."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lab_page import Notebook, save_screenshot
from playwright.sync_api import expect

from vqlab import Run, train

pytestmark = pytest.mark.browser

SMALL_PRIOR = {"prior.kind": "transformer", "prior.epochs": 1, "prior.width": 16, "prior.layers": 1, "prior.heads": 2}


def test_temperature_class_seed_and_known_codes_change_the_samples(
    notebook: Callable[..., Notebook], runs: dict[str, Run]
) -> None:
    codec = runs["rotation"]
    prior = train(codec.config.replace(**SMALL_PRIOR), codec.folder.parent, "cpu")
    page = notebook(
        f"from vqlab.widgets import SampleExplorer\nexplorer = SampleExplorer({str(prior.folder)!r})\nexplorer"
    )
    page.wait_until("() => document.querySelector('img.vqlab-samples')?.naturalWidth > 0")
    page.expect_picture_change("samples", lambda: page.widget("label").locator("select").select_option("coffee"))
    page.expect_picture_change("samples", lambda: page.press_slider("temperature", "ArrowLeft"))
    page.expect_picture_change("samples", lambda: page.press_slider("top-k", "ArrowRight"))
    # With top-k 1 the seed has no effect.
    page.expect_picture_change("samples", lambda: page.execute("explorer.state = {'top_k': 20}"))
    seed = page.widget("seed").locator("input")
    seed.fill("4")
    page.expect_picture_change("samples", lambda: seed.press("Enter"))
    page.expect_picture_change("samples", lambda: page.page.get_by_role("button", name="keep the upper half").click())
    caption = page.widget("known-caption")
    expect(caption).to_contain_text("32 codes kept, 32 sampled")
    page.page.locator(".vqlab-known [role=gridcell]").nth(60).click()
    expect(caption).to_contain_text("33 codes kept, 31 sampled")
    page.set_theme("JupyterLab Dark")
    save_screenshot(page, "samples_dark")
    page.set_theme("JupyterLab Light")
