"""GradientExplorer with its plane in JupyterLab."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from lab_page import Notebook, save_screenshot
from playwright.sync_api import expect

from vqlab import Run

pytestmark = pytest.mark.browser
# Positions by kind as the page shows them, and whether its thin arrows are those of the kernel.
SHOWN = """arrows => {
  const plane = document.querySelector('svg.vqlab-plane');
  const at = (kind) => [...plane.querySelectorAll(`[data-kind=${kind}]`)]
    .map((node) => [Number(node.dataset.x), Number(node.dataset.y)]);
  const path = plane.querySelector('path.field').getAttribute('d');
  const drawn = arrows.every(([x, y, toX, toY]) => path.includes(`M${x} ${-y}L${toX} ${-toY}M`));
  return {codes: at('code'), points: at('point'), drawn};
}"""
KNOWN = """
import json
plane = explorer.plane_explorer
print(json.dumps([plane.state, plane._view.canvas.field_arrows]))
"""


def wait_until_answered(page: Notebook) -> dict[str, Any]:
    """Wait until the kernel has the positions on the page, and the page the kernel's arrows; return the positions."""
    end = time.monotonic() + 60
    while True:
        state, arrows = json.loads(page.execute(KNOWN))
        shown = page.page.evaluate(SHOWN, arrows)
        if shown == {"codes": state["codes"], "points": state["points"], "drawn": True}:
            return shown
        assert time.monotonic() < end, (state, shown)
        page.page.wait_for_timeout(100)


def test_steps_transports_and_dragged_codes_update_the_drawing(
    notebook: Callable[..., Notebook], runs: dict[str, Run]
) -> None:
    folder = str(runs["rotation"].folder)
    page = notebook(f"from vqlab.widgets import GradientExplorer\nexplorer = GradientExplorer({folder!r})\nexplorer")
    page.widget("step").locator(".noUi-handle").wait_for()
    page.expect_chart_change("angles", lambda: page.press_slider("step", "ArrowLeft"))
    quantity = page.widget("quantity").locator("select")
    page.expect_chart_change("angles", lambda: quantity.select_option(label="angle of z_e to its code z_q (degrees)"))
    quantity.select_option(label="log₁₀ ‖∇ at z_e‖/‖∇ at z_q‖")
    page.expect_chart_change("angles", lambda: page.widget("transport").locator("select").select_option("reflection"))

    plane = page.page.locator("svg.vqlab-plane")
    plane.scroll_into_view_if_needed()
    caption = page.widget("plane-caption")
    before = caption.inner_text()
    box = plane.locator("[data-kind=code]").nth(6).bounding_box()
    assert box is not None
    mouse = page.page.mouse
    mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    mouse.down()
    mouse.move(box["x"] - 60, box["y"] + 20, steps=8)
    mouse.up()
    expect(caption).not_to_have_text(before)
    x, y = wait_until_answered(page)["points"][0]
    after = caption.inner_text()
    plane.locator("[data-kind=point]").first.focus()
    for _ in range(12):
        page.page.keyboard.press("ArrowUp")
    assert wait_until_answered(page)["points"][0] == [x, pytest.approx(y + 1.2)]
    expect(caption).not_to_have_text(after)
    field = plane.locator("path.field").get_attribute("d")
    page.page.locator(".vqlab-transport select").nth(1).select_option("straight_through")
    expect(plane.locator("path.field")).not_to_have_attribute("d", field or "")
    page.page.locator(".vqlab-transport select").nth(1).select_option("rotation")
    expect(plane.locator("path.field")).to_have_attribute("d", field or "")
    page.set_theme("JupyterLab Dark")
    plane.scroll_into_view_if_needed()
    save_screenshot(page, "gradient_dark")
    page.set_theme("JupyterLab Light")
