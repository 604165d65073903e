"""Rows, columns and CSS classes of the live views."""

from __future__ import annotations

from typing import TypeVar

import ipywidgets as w

_Widget = TypeVar("_Widget", bound=w.DOMWidget)


def row(*widgets: w.DOMWidget) -> w.Box:
    """Arrange widgets from left to right; on a narrow page they wrap to the next line.

    Args:
        *widgets: the widgets; each keeps its size.

    Returns:
        A flexible box.
    """
    layout = w.Layout(display="flex", flex_flow="row wrap", grid_gap="4px 14px", align_items="flex-end")
    return w.Box([with_class("no-shrink", widget) for widget in widgets], layout=layout)


def column(*widgets: w.DOMWidget) -> w.VBox:
    """Arrange widgets from top to bottom.

    Args:
        *widgets: the widgets; each keeps its size.

    Returns:
        A vertical box.
    """
    return w.VBox([with_class("no-shrink", widget) for widget in widgets])


def with_class(name: str, widget: _Widget) -> _Widget:
    """Add the CSS class ``vqlab-<name>`` to a widget; styles and browser tests select it by this class.

    Args:
        name: the class name without its prefix.
        widget: the widget to change.

    Returns:
        The same widget.
    """
    widget.add_class(f"vqlab-{name}")
    return widget
