"""Rows and columns that keep their parts' sizes and wrap on a narrow page."""

from __future__ import annotations

from typing import TypeVar

import ipywidgets as w

Part = TypeVar("Part", bound=w.DOMWidget)


def row(*parts: w.DOMWidget) -> w.Box:
    """Parts beside each other, on a further line where the page is too narrow."""
    layout = w.Layout(display="flex", flex_flow="row wrap", grid_gap="4px 14px", align_items="flex-end")
    return w.Box([named("whole", part) for part in parts], layout=layout)


def column(*parts: w.DOMWidget) -> w.VBox:
    """Parts below each other, none of them squeezed."""
    return w.VBox([named("whole", part) for part in parts])


def named(name: str, part: Part) -> Part:
    """``part`` with the class vqlab-``name``, by which styles and tests know it."""
    part.add_class(f"vqlab-{name}")
    return part
