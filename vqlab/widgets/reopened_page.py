"""Widget that shows the others again when a notebook is opened in a page that was too busy to do so."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import anywidget


class ReopenedPage(anywidget.AnyWidget):
    """Looks for outputs of a notebook that say "model not found" although the kernel has the widget.

    It is not displayed; the page runs it when it restores the widgets of the kernel. One is enough for a kernel.
    """

    _esm = Path(__file__).parent / "static" / "reopened_page.js"


@cache
def _cached() -> ReopenedPage:
    return ReopenedPage()


def show_again_when_reopened() -> None:
    """Create the widget for this kernel, unless it is there; a new one after ``Widget.close_all``."""
    if _cached().comm is None:
        _cached.cache_clear()
        _cached()
