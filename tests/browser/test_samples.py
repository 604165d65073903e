"""SampleExplorer in a real JupyterLab."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lab_page import Notebook, keep
from playwright.sync_api import expect

from vqlab import Run, train

pytestmark = pytest.mark.browser

SMALL_PRIOR = {"prior.kind": "transformer", "prior.epochs": 1, "prior.width": 16, "prior.layers": 1, "prior.heads": 2}


def test_temperature_class_seed_and_given_codes_change_the_samples(
    notebook: Callable[..., Notebook], runs: dict[str, Run]
) -> None:
    codec = runs["rotation"]
    prior = train(codec.config.replace(**SMALL_PRIOR), codec.folder.parent, "cpu")
    page = notebook(
        f"from vqlab.widgets import SampleExplorer\nexplorer = SampleExplorer({str(prior.folder)!r})\nexplorer"
    )
    page.until("() => document.querySelector('img.vqlab-samples')?.naturalWidth > 0")
    page.changes("samples", lambda: page.widget("label").locator("select").select_option("coffee"))
    page.changes("samples", lambda: page.slide("temperature", "ArrowLeft"))
    page.changes("samples", lambda: page.slide("top-k", "ArrowRight"))
    # With one code to choose from, a seed changes nothing.
    page.changes("samples", lambda: page.run("explorer.state = {'top_k': 20}"))
    seed = page.widget("seed").locator("input")
    seed.fill("4")
    page.changes("samples", lambda: seed.press("Enter"))
    page.changes("samples", lambda: page.page.get_by_role("button", name="give the upper half").click())
    told = page.page.get_by_text("codes are given")
    expect(told).to_have_text("32 codes are given, 32 are drawn")
    page.page.locator(".vqlab-given [role=gridcell]").nth(60).click()
    expect(told).to_have_text("33 codes are given, 31 are drawn")
    page.theme("JupyterLab Dark")
    keep(page, "samples_dark")
    page.theme("JupyterLab Light")
