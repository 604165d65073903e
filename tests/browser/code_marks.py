"""Which views of codes show a code as lit or selected, and how soon after the input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page

# The kernel's side of two linked explorers.
CODES = "print(explorer.state['code'], codebook.state['code'])"
# Times from the first input on: of that event, and of the last change of an element in any explorer.
WATCH = """() => {
  window.codeTimes = {};
  if (window.codeObserver) return;
  for (const type of ['pointerover', 'pointerdown', 'keydown', 'click', 'focusin']) {
    document.addEventListener(type, () => { window.codeTimes.event ??= performance.now(); }, true);
  }
  window.codeObserver = new MutationObserver(() => { window.codeTimes.last = performance.now(); });
  const attributeFilter = ['class', 'aria-selected', 'x', 'data-code'];
  for (const root of document.querySelectorAll('.vqlab')) {
    window.codeObserver.observe(root, {subtree: true, attributes: true, attributeFilter});
  }
}"""
# The codes that each view marks, by a name of the view.
MARKS = """name => {
  const marks = {};
  const add = (view, code) => (marks[view] ??= new Set()).add(Number(code));
  const views = {grid: '[role=gridcell]', caption: '.vqlab-code-name', patch: 'img.vqlab-picture'};
  for (const [view, selector] of Object.entries(views)) {
    for (const node of document.querySelectorAll(`.vqlab ${selector}.vqlab-${name}`)) {
      const palette = node.closest('.vqlab-flow') ? 'palette' : view;
      add(palette, node.dataset.code);
    }
  }
  for (const bar of document.querySelectorAll(`.vqlab-usage-plot rect.${name}`)) {
    if (bar.style.display !== 'none') add('bars', bar.dataset.code);
  }
  return Object.fromEntries(Object.entries(marks).map(([view, codes]) => [view, [...codes]]));
}"""


def marked(page: Page, name: str) -> dict[str, list[int]]:
    """Return the codes that are marked as ``name`` (lit or selected) in each view of the page."""
    return page.evaluate(MARKS, name)


def milliseconds_until_marked(page: Page, action: Callable[[], Any]) -> float:
    """Run an input and return the time from its first event to the last element that changed within half a second."""
    page.evaluate(WATCH)
    action()
    page.wait_for_timeout(500)
    times = page.evaluate("window.codeTimes")
    return times["last"] - times["event"]
