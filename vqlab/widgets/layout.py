"""Parts of the live views by their CSS classes; sizes are in vqlab/frontend/vqlab.css."""

from __future__ import annotations

from typing import TypeVar

import ipywidgets as w

_Widget = TypeVar("_Widget", bound=w.DOMWidget)


def control_bar(*widgets: w.DOMWidget) -> w.Box:
    """Arrange controls in a bar.

    Args:
        *widgets: the controls, from left to right.

    Returns:
        A box of the class ``vqlab-bar``.
    """
    return with_class("bar", w.Box(list(widgets)))


def two_bars(first: w.Box, second: w.Box) -> w.Box:
    """Arrange two bars on one line, or one above the other where the page is narrow.

    Args:
        first: controls of what is shown.
        second: controls of what is done with it.

    Returns:
        A box of the class ``vqlab-bars``.
    """
    return with_class("bars", w.Box([first, second]))


def picture_row(*figures: w.DOMWidget) -> w.Box:
    """Arrange figures of one size on one line.

    Args:
        *figures: what ``figure_box`` returns, from left to right.

    Returns:
        A box of the class ``vqlab-pictures``.
    """
    return with_class("pictures", w.Box(list(figures)))


def figure_box(picture: w.DOMWidget, caption: w.DOMWidget) -> w.VBox:
    """Put a caption below a picture or a grid of codes.

    Args:
        picture: what is shown.
        caption: its caption.

    Returns:
        A box of the class ``vqlab-figure``.
    """
    return with_class("figure", w.VBox([picture, with_class("caption", caption)]))


def panels(*widgets: w.DOMWidget) -> w.Box:
    """Arrange two parts beside each other, or one above the other where the page is narrow.

    Args:
        *widgets: the parts.

    Returns:
        A box of the class ``vqlab-panels``.
    """
    return with_class("panels", w.Box(list(widgets)))


def column(*widgets: w.DOMWidget) -> w.VBox:
    """Arrange widgets from top to bottom.

    Args:
        *widgets: the widgets.

    Returns:
        A box of the class ``vqlab-column``.
    """
    return with_class("column", w.VBox(list(widgets)))


def picture(name: str) -> w.Image:
    """Create a picture of the class ``vqlab-<name>``; it fills the width of its place.

    Args:
        name: the class name without its prefix.

    Returns:
        An image widget for PNG.
    """
    return with_class(name, with_class("picture", w.Image(format="png")))


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
