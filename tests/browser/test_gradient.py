"""GradientExplorer with its plane in JupyterLab."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lab_page import Notebook, save_screenshot, wait_until_stable
from playwright.sync_api import expect

from vqlab import Run

pytestmark = pytest.mark.browser


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
    after = caption.inner_text()
    plane.locator("[data-kind=point]").first.focus()
    for _ in range(12):
        page.page.keyboard.press("ArrowUp")
    expect(caption).not_to_have_text(after)
    field = wait_until_stable(page.page, lambda: plane.locator("path.field").get_attribute("d"))
    page.page.locator(".vqlab-transport select").nth(1).select_option("straight_through")
    expect(plane.locator("path.field")).not_to_have_attribute("d", field or "")
    page.page.locator(".vqlab-transport select").nth(1).select_option("rotation")
    expect(plane.locator("path.field")).to_have_attribute("d", field or "")
    page.set_theme("JupyterLab Dark")
    plane.scroll_into_view_if_needed()
    save_screenshot(page, "gradient_dark")
    page.set_theme("JupyterLab Light")
