"""LiveTraining in JupyterLab: live updates, pause and resume, and training while the page is closed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SMALL
from lab_page import KERNEL_READY, Notebook, save_screenshot
from playwright.sync_api import expect

from vqlab import Config, Run, train
from vqlab.training.files import read_tensors

pytestmark = pytest.mark.browser


def reload_page(page: Notebook) -> None:
    """Reload the page, as after closing the browser.

    JupyterLab waits two seconds for the widgets of the kernel; on a busy machine this can need another attempt.
    """
    for _ in range(4):
        page.page.reload(wait_until="domcontentloaded")
        page.wait_until(KERNEL_READY)
        first = page.page.locator(".vqlab-live-status, :text('model not found')").first
        first.wait_for(timeout=60_000)
        if page.widget("live-status").count():
            break
    page.console_errors[:] = [error for error in page.console_errors if "widget model not found" not in error]
    expect(page.widget("live-status")).to_contain_text("at step")


def test_a_training_paused_resumed_and_reloaded_gives_the_same_weights(
    notebook: Callable[..., Notebook], tmp_path: Path
) -> None:
    changes = {**SMALL, "optim.epochs": 6}
    page = notebook(
        "from vqlab import Config\nfrom vqlab.widgets import LiveTraining\n"
        f"live = LiveTraining(Config.profile('paper', **{changes!r}), {str(tmp_path)!r}, 'cpu')\nlive"
    )
    status = page.widget("live-status")
    page.page.get_by_role("button", name="start", exact=True).click()
    page.wait_until("() => document.querySelector('.vqlab-curves .lines path.js-line')")
    page.expect_chart_change("curves", lambda: None)
    page.expect_picture_change("live-pictures", lambda: None)
    # Controls react during the training.
    page.expect_chart_change("curves", lambda: page.widget("curve").locator("select").select_option(label="loss"))
    page.page.get_by_role("button", name="pause", exact=True).click()
    expect(status).to_contain_text("paused at step")
    page.page.get_by_role("button", name="resume", exact=True).click()
    expect(status).to_contain_text("training at step")
    page.save()
    reload_page(page)
    expect(page.widget("live-status")).to_contain_text("finished at step 120", timeout=90_000)
    # All 60 logged steps are drawn, including those before the reload.
    drawn = "plot => (plot._fullData[0].x?._inputArray ?? plot._fullData[0].x).length === 60"
    page.wait_until(f"() => [...document.querySelectorAll('.js-plotly-plot')].some({drawn})")
    save_screenshot(page, "live_after_reload")

    config = Config.profile("paper", **changes)
    uninterrupted = train(config, tmp_path / "uninterrupted", "cpu")
    live = Run.open(tmp_path / config.id)
    one, other = (read_tensors(run.folder / "model.safetensors")[0] for run in (uninterrupted, live))
    assert all(bool((one[name] == other[name]).all()) for name in one)
    assert len(live.metrics().query("kind == 'train'")) == 60
