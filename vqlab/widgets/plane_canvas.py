"""The plane of vqlab.analysis.plane as a page's part, with things to drag."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anywidget
import numpy as np
import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from vqlab.analysis.pictures import data_url, encode_grey_png
from vqlab.analysis.plane import Plane, square_grid
from vqlab.widgets.choices import HALF_WIDTH

_STATIC = Path(__file__).parent / "static"
_CELLS = 88
_FIELD = 13
_ARROW = 0.22


class PlaneCanvas(anywidget.AnyWidget):
    """Codes (circles), encoder points (squares) and the target (star) in [−2.2, 2.2]², and arrows along −∇.

    What is dragged, or moved with the arrow keys, calls what ``on_move`` was given.
    """

    _esm = _STATIC / "plane.js"
    _css = _STATIC / "plane.css"
    half = traitlets.Float(HALF_WIDTH, help="the plane is [−half, half]²").tag(sync=True)
    codes: traitlets.List = traitlets.List(help="codes, (K, 2)").tag(sync=True)
    points: traitlets.List = traitlets.List(help="encoder points, (N, 2)").tag(sync=True)
    target: traitlets.List = traitlets.List(help="where the decoder wants the code, (2,)").tag(sync=True)
    field: traitlets.List = traitlets.List(help="thin arrows of the whole plane, (M, 4): from, to").tag(sync=True)
    arrows: traitlets.List = traitlets.List(help="thick arrows of the encoder points, (N, 4)").tag(sync=True)
    ground = traitlets.Unicode(help="data URL of the cells' picture").tag(sync=True)
    serial = traitlets.Int(0, help="grows with each drawing, after all else").tag(sync=True)

    def on_move(self, call: Callable[[str, int, tuple[float, float]], None]) -> None:
        """Have ``call(kind, index, (x, y))`` called when a code, point or target moved."""
        self.on_msg(lambda _, told, __: call(told["kind"], told["index"], (told["x"], told["y"])))

    def draw(self, plane: Plane, points: Float[Tensor, "N 2"], transport: str) -> None:
        """Show ``plane`` and what ``transport`` tells the encoder at the points and all over."""
        grid = square_grid(_FIELD, HALF_WIDTH - 0.15)
        with self.hold_sync():
            self.codes, self.points, self.target = plane.codes.tolist(), points.tolist(), list(plane.target)
            self.field = _arrows(plane, grid, transport)
            self.arrows = _arrows(plane, points, transport)
            self.ground = _ground(plane)
        self.serial += 1


def _arrows(plane: Plane, points: Float[Tensor, "N 2"], transport: str) -> list[list[float]]:
    heads = points - _ARROW * plane.gradient(points, transport)
    return [[round(v, 3) for v in line] for line in torch.cat([points, heads], dim=1).tolist()]


def _ground(plane: Plane) -> str:
    line = torch.linspace(HALF_WIDTH, -HALF_WIDTH, _CELLS)
    points = torch.stack([-line.repeat(_CELLS), line.repeat_interleave(_CELLS)], dim=1)
    cells = plane.cells(points).view(_CELLS, _CELLS).numpy()
    greys = np.linspace(205, 252, len(plane.codes)).round().astype(np.uint8)
    return data_url(encode_grey_png(greys[(cells * 3) % len(greys)]))
