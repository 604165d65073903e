"""The page of PlanePlayground."""

from __future__ import annotations

from typing import Any, Protocol

import ipywidgets as w
import torch

from vqlab.analysis.plane import Plane
from vqlab.quantize import transport_names
from vqlab.widgets.choices import MAX_SHIFT
from vqlab.widgets.layout import column, named, row
from vqlab.widgets.plane_canvas import PlaneCanvas
from vqlab.widgets.view import ExplorerState, View

_HOW = (
    "circles: codes · squares: encoder points · star: the code that the decoder wants<br>"
    "thick arrows: what the points are told (−∇) · thin: the same all over · drag, or focus and use the arrow keys"
)


class PlaneState(ExplorerState, Protocol):
    """What the view reads of a PlaneExplorer."""

    @property
    def plane(self) -> Plane:
        """The plane as the state describes it."""

    def move(self, kind: str, index: int, place: tuple[float, float]) -> None:
        """Move a code, a point or the target."""


class PlaneView(View):
    """Controls above, the plane below."""

    explorer: PlaneState

    def __init__(self, explorer: PlaneState) -> None:
        super().__init__(explorer)
        self.transport = named("transport", w.Dropdown(options=transport_names(), description="transport"))
        self.shift = named("shift", w.FloatSlider(description="origin away", min=0, max=MAX_SHIFT, step=0.5))
        self.shift.style.description_width = "initial"
        self.canvas = PlaneCanvas()
        self.told = named("plane-told", w.HTML())
        self.bind(self.transport, "transport")
        self.bind(self.shift, "shift")
        self.canvas.on_move(lambda *moved: explorer.attempt(lambda: explorer.move(*moved)))
        self.box = column(row(self.transport, self.shift), self.canvas, self.told, w.HTML(_HOW))

    def draw(self, state: dict[str, Any], differs: set[str]) -> None:
        """The plane, and the length of each point's gradient."""
        plane, points = self.explorer.plane, torch.tensor(state["points"]).float()
        self.canvas.draw(plane, points, state["transport"])
        lengths = plane.gradient(points, state["transport"]).norm(dim=1)
        self.told.value = "‖∇‖ at the points: " + ", ".join(f"{float(length):.2f}" for length in lengths)
