"""Widget that draws the plane of vqlab.analysis.plane with codes and points that can be dragged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anywidget
import numpy as np
import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from vqlab.analysis.pictures import data_url, encode_shade_png
from vqlab.analysis.plane import Plane, square_grid
from vqlab.widgets.choices import HALF_WIDTH
from vqlab.widgets.components import widget_script

_BACKGROUND_SIZE = 88
_FIELD_SIZE = 13
_ARROW_SCALE = 0.22


class PlaneCanvas(anywidget.AnyWidget):
    """Codes (circles), encoder vectors (squares) and the target (star) in [−2.2, 2.2]², with arrows along −∇.

    Codes, encoder vectors and the target can be dragged, or focused and moved with the arrow keys. Every attribute is
    synchronised with the browser; ``draw`` sets them all.

    Attributes:
        half_width: the plane is [−``half_width``, ``half_width``]².
        codes: codes, (K, 2).
        points: encoder vectors, (N, 2).
        target: target of the decoder, (2,).
        field_arrows: thin arrows on a regular grid, (M, 4): start x, start y, end x, end y.
        point_arrows: thick arrows at the encoder vectors, (N, 4).
        background: data URL of the image of the Voronoi cells.
        revision: number of drawings; the browser redraws when it changes.
    """

    _esm = widget_script((), "kernel", "plane_canvas")
    half_width = traitlets.Float(HALF_WIDTH, help="the plane is [−half_width, half_width]²").tag(sync=True)
    codes: traitlets.List[Any] = traitlets.List(help="codes, (K, 2)").tag(sync=True)
    points: traitlets.List[Any] = traitlets.List(help="encoder vectors, (N, 2)").tag(sync=True)
    target: traitlets.List[Any] = traitlets.List(help="target of the decoder, (2,)").tag(sync=True)
    field_arrows: traitlets.List[Any] = traitlets.List(help="thin arrows on a regular grid, (M, 4)").tag(sync=True)
    point_arrows: traitlets.List[Any] = traitlets.List(help="thick arrows at the points, (N, 4)").tag(sync=True)
    background = traitlets.Unicode(help="data URL of the image of the Voronoi cells").tag(sync=True)
    revision = traitlets.Int(0, help="number of drawings, set after all else").tag(sync=True)

    def on_move(self, callback: Callable[[str, int, tuple[float, float]], None]) -> None:
        """Register a function that is called when a code, an encoder vector or the target was moved.

        Args:
            callback: called with the kind (``code``, ``point`` or ``target``), the index among its kind from 0, and
                the new position (x, y).
        """
        self.on_msg(lambda _, moved, __: callback(moved["kind"], moved["index"], (moved["x"], moved["y"])))

    def draw(self, plane: Plane, points: Float[Tensor, "N 2"], transport: str) -> None:
        """Draw a plane, encoder vectors and the gradients that a transport gives.

        Args:
            plane: codes, target and origin.
            points: encoder vectors, (N, 2).
            transport: name of the gradient transport.
        """
        grid = square_grid(_FIELD_SIZE, HALF_WIDTH - 0.15)
        with self.hold_sync():
            self.codes, self.points, self.target = plane.codes.tolist(), points.tolist(), list(plane.target)
            self.field_arrows = _arrows(plane, grid, transport)
            self.point_arrows = _arrows(plane, points, transport)
            self.background = _background(plane)
        self.revision += 1


def _arrows(plane: Plane, points: Float[Tensor, "N 2"], transport: str) -> list[list[float]]:
    heads = points - _ARROW_SCALE * plane.gradient(points, transport)
    return [[round(v, 3) for v in line] for line in torch.cat([points, heads], dim=1).tolist()]


def _background(plane: Plane) -> str:
    line = torch.linspace(HALF_WIDTH, -HALF_WIDTH, _BACKGROUND_SIZE)
    points = torch.stack([-line.repeat(_BACKGROUND_SIZE), line.repeat_interleave(_BACKGROUND_SIZE)], dim=1)
    cells = plane.cells(points).view(_BACKGROUND_SIZE, _BACKGROUND_SIZE).numpy()
    opacity = np.linspace(100, 6, len(plane.codes)).round().astype(np.uint8)
    return data_url(encode_shade_png(opacity[(cells * 3) % len(opacity)]))
