"""The 2-D playground: drag codes and encoder points, and see what each transport tells the encoder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from vqlab.analysis.plane import Plane
from vqlab.errors import InputError
from vqlab.quantize import transport_names
from vqlab.widgets.base import Explorer, in_range, one_of
from vqlab.widgets.choices import HALF_WIDTH, MAX_SHIFT

if TYPE_CHECKING:
    import ipywidgets
    from matplotlib.figure import Figure

_POINTS = [[-0.6, 0.4], [1.0, 1.3], [-0.9, -1.5]]


class PlaneExplorer(Explorer):
    """Seven codes, three encoder points and the decoder's wish in the plane; arrows show −∇.

    state: transport (its name); codes (K, 2), points (N, 2) and target (2,), each in [−2.2, 2.2]; shift, the
    distance of the origin along each axis, 0…100: vectors are turned about the origin, so far away a rotation
    is as good as none.
    """

    def __init__(self, **state: Any) -> None:
        super().__init__()
        plane = Plane()
        codes = [[round(v, 3) for v in code] for code in plane.codes.tolist()]
        self.state = {"transport": "rotation", "codes": codes, "points": _POINTS,
                      "target": list(plane.target), "shift": 0}  # fmt: skip
        self.state = state

    @property
    def plane(self) -> Plane:
        """The plane as the state has it."""
        shift = float(self.state["shift"])
        target = (float(self.state["target"][0]), float(self.state["target"][1]))
        return replace(Plane(torch.tensor(self.state["codes"]).float(), target), origin=(-shift, -shift))

    def move(self, kind: str, index: int, place: tuple[float, float]) -> None:
        """Put a ``code``, a ``point`` or the ``target`` at ``place``."""
        if kind == "target":
            self.state = {"target": list(place)}
            return
        key = f"{kind}s"
        places = list(self.state[key])
        places[index] = list(place)
        self.state = {key: places}

    def figure(self) -> Figure:
        """The gradient's field of every transport at the present codes and shift."""
        from vqlab.plots import plane_figure

        return plane_figure(transport_names(), (self.state["shift"],), self.plane)

    def _validated(self, state: dict[str, Any], changed: set[str]) -> dict[str, Any]:
        one_of("transport", state["transport"], transport_names())
        in_range("shift", state["shift"], 0, MAX_SHIFT)
        _check_places("codes", state["codes"])
        _check_places("points", state["points"])
        _check_places("target", [state["target"]])
        return state

    def _build(self) -> ipywidgets.Widget:
        from vqlab.widgets.plane_view import PlaneView

        self._view = PlaneView(self)
        return self._view.box

    def _refresh(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self._view.show(old, new)


def _check_places(name: str, places: Any) -> None:
    try:
        table = torch.tensor(places, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        table = torch.empty(0)
    if table.dim() != 2 or table.shape[1] != 2 or not bool((table.abs() <= HALF_WIDTH).all()):
        raise InputError(f"{name}: must be places (x, y) with both in [−{HALF_WIDTH}, {HALF_WIDTH}]")
