"""LiveTraining in a real JupyterLab: it moves, can be paused and resumed, and outlives the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SMALL
from lab_page import READY, Notebook, keep
from playwright.sync_api import expect

from vqlab import Config, Run, train
from vqlab.training.files import read_tensors

pytestmark = pytest.mark.browser


def come_back(page: Notebook) -> None:
    """Load the page anew, as after closing the browser.

    JupyterLab gives a kernel two seconds to hand the widgets over; on a machine with other work it takes a second try.
    """
    for _ in range(4):
        page.page.reload(wait_until="domcontentloaded")
        page.until(READY)
        found = page.page.locator(".vqlab-live-told, :text('model not found')").first
        found.wait_for(timeout=60_000)
        if page.widget("live-told").count():
            break
    page.errors[:] = [error for error in page.errors if "widget model not found" not in error]
    expect(page.widget("live-told")).to_contain_text("at step")


def test_a_training_is_started_paused_left_and_resumed_to_the_same_weights(
    notebook: Callable[..., Notebook], tmp_path: Path
) -> None:
    changes = {**SMALL, "optim.epochs": 6}
    page = notebook(
        "from vqlab import Config\nfrom vqlab.widgets import LiveTraining\n"
        f"live = LiveTraining(Config.profile('quick', **{changes!r}), {str(tmp_path)!r}, 'cpu')\nlive"
    )
    told = page.widget("live-told")
    page.page.get_by_role("button", name="start", exact=True).click()
    page.until("() => document.querySelector('.vqlab-curves .lines path.js-line')")
    page.redraws("curves", lambda: None)
    page.changes("live-pictures", lambda: None)
    # The page answers while the training goes on.
    page.redraws("curves", lambda: page.widget("curve").locator("select").select_option(label="loss"))
    page.page.get_by_role("button", name="pause", exact=True).click()
    expect(told).to_contain_text("paused at step")
    page.page.get_by_role("button", name="resume", exact=True).click()
    expect(told).to_contain_text("training at step")
    page.command("docmanager:save")
    page.page.wait_for_timeout(1000)
    come_back(page)
    expect(page.widget("live-told")).to_contain_text("finished at step 120", timeout=90_000)
    # All 60 logged steps of the training are drawn, those before the reload too.
    drawn = "plot => (plot._fullData[0].x?._inputArray ?? plot._fullData[0].x).length === 60"
    page.until(f"() => [...document.querySelectorAll('.js-plotly-plot')].some({drawn})")
    keep(page, "live_after_reload")

    config = Config.profile("quick", **changes)
    run_lock = train(config, tmp_path / "alone", "cpu")
    watched = Run.open(tmp_path / config.id)
    one, other = (read_tensors(run.folder / "model.safetensors")[0] for run in (run_lock, watched))
    assert all(bool((one[name] == other[name]).all()) for name in one)
    assert len(watched.metrics().query("kind == 'train'")) == 60
