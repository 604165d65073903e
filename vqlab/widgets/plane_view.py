"""Live view of PlaneExplorer: the plane with its controls."""

from __future__ import annotations

from typing import Any, Protocol

import ipywidgets as w
import torch

from vqlab.analysis.plane import Plane
from vqlab.quantize import rowwise_transport_names
from vqlab.widgets.choices import MAX_SHIFT
from vqlab.widgets.layout import column, control_bar, figure_box, with_class
from vqlab.widgets.plane_canvas import PlaneCanvas
from vqlab.widgets.view import ExplorerState, View

_HELP = (
    "circles: codes · squares: encoder vectors · star: target of the decoder<br>"
    "thick arrows: −∇ at the encoder vectors · thin arrows: −∇ on a regular grid<br>"
    "drag a symbol, or focus it and use the arrow keys"
)


class PlaneState(ExplorerState, Protocol):
    """Members of a PlaneExplorer that its view uses."""

    @property
    def plane(self) -> Plane:
        """Codes, target and origin of the present state."""

    def move(self, kind: str, index: int, position: tuple[float, float]) -> None:
        """Move a code, an encoder vector or the target."""


class PlaneView(View):
    """Controls above, the plane below.

    Args:
        explorer: the explorer to show.
    """

    explorer: PlaneState

    def __init__(self, explorer: PlaneState) -> None:
        super().__init__(explorer)
        self.transport = with_class("transport", w.Dropdown(options=rowwise_transport_names(), description="transport"))
        self.shift = with_class(
            "shift", w.FloatSlider(description="origin at (−s, −s), s =", min=0, max=MAX_SHIFT, step=0.5)
        )
        self.canvas = PlaneCanvas()
        self.caption = with_class("plane-caption", w.HTML())
        self.bind(self.transport, "transport")
        self.bind(self.shift, "shift")
        self.canvas.on_move(lambda *moved: explorer.run_action(lambda: explorer.move(*moved)))
        self.box = column(control_bar(self.transport, self.shift), figure_box(self.canvas, self.caption))

    def draw(self, state: dict[str, Any], changed: set[str]) -> None:
        """Draw the plane, and print the length of the gradient at each encoder vector."""
        plane, points = self.explorer.plane, torch.tensor(state["points"]).float()
        self.canvas.draw(plane, points, state["transport"])
        lengths = plane.gradient(points, state["transport"]).norm(dim=1)
        shown = ", ".join(f"{float(length):.2f}" for length in lengths)
        self.caption.value = f"‖∇‖ at the encoder vectors: {shown}<br>{_HELP}"
