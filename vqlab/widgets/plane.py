"""Explorer of the gradient transports in the plane: codes and encoder vectors to drag, arrows along −∇."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from vqlab.analysis.plane import Plane
from vqlab.errors import InputError
from vqlab.quantize import rowwise_transport_names
from vqlab.widgets.base import Explorer
from vqlab.widgets.checks import check_one_of, check_range
from vqlab.widgets.choices import HALF_WIDTH, MAX_SHIFT

if TYPE_CHECKING:
    import ipywidgets
    from matplotlib.figure import Figure

_POINTS = [[-0.6, 0.4], [1.0, 1.3], [-0.9, -1.5]]


class PlaneExplorer(Explorer):
    """Show the gradient that a transport gives to encoder vectors in the plane.

    Each encoder vector e is replaced by its nearest code q, and the decoder's loss is ½‖q − target‖². The arrows show
    −∇ at the encoder vectors, and on a regular grid of the plane.

    Keys of ``state``:

    - ``transport``: name of the gradient transport, ``rotation`` at first.
    - ``codes``: codes, (K, 2), each coordinate in [−2.2, 2.2]; seven at first.
    - ``points``: encoder vectors, (N, 2), in the same range; three at first.
    - ``target``: target of the decoder, (2,), in the same range.
    - ``shift``: distance by which the origin is moved along each axis, 0…100. A rotation turns vectors about the
      origin, so the farther it is, the smaller are the angles and the closer is ``rotation`` to
      ``straight_through``.

    Args:
        **state: initial values of keys of ``state``.

    Raises:
        InputError: if a value of ``state`` is not allowed.

    Example:
        >>> explorer = PlaneExplorer(transport="reflection")
        >>> explorer.move("code", 6, (0.5, 0.5))
        >>> explorer.state["codes"][6]
        [0.5, 0.5]
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
        """Codes, target and origin of the present state."""
        shift = float(self.state["shift"])
        target = (float(self.state["target"][0]), float(self.state["target"][1]))
        return replace(Plane(torch.tensor(self.state["codes"]).float(), target), origin=(-shift, -shift))

    def move(self, kind: str, index: int, position: tuple[float, float]) -> None:
        """Move a code, an encoder vector or the target.

        Args:
            kind: ``code``, ``point`` (an encoder vector) or ``target``.
            index: index among the codes or points, from 0; not used for the target.
            position: new (x, y), each coordinate in [−2.2, 2.2].

        Raises:
            InputError: if the position is outside the plane.
        """
        if kind == "target":
            self.state = {"target": list(position)}
            return
        key = f"{kind}s"
        positions = list(self.state[key])
        positions[index] = list(position)
        self.state = {key: positions}

    def figure(self) -> Figure:
        """Draw the gradient field of every transport for the present codes, target and shift."""
        from vqlab.plots import plane_figure

        return plane_figure(rowwise_transport_names(), (self.state["shift"],), self.plane)

    def _validated(self, state: dict[str, Any], changed: set[str]) -> dict[str, Any]:
        check_one_of("transport", state["transport"], rowwise_transport_names())
        check_range("shift", state["shift"], 0, MAX_SHIFT)
        _check_positions("codes", state["codes"])
        _check_positions("points", state["points"])
        _check_positions("target", state["target"], dims=1)
        return state

    def _build(self) -> ipywidgets.Widget:
        from vqlab.widgets.plane_view import PlaneView

        self._view = PlaneView(self)
        return self._view.box

    def _refresh(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self._view.update(old, new)


def _check_positions(name: str, positions: Any, dims: int = 2) -> None:
    try:
        table = torch.tensor(positions, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        table = torch.empty(0)
    if table.dim() != dims or table.shape[-1] != 2 or not bool((table.abs() <= HALF_WIDTH).all()):
        allowed = "(x, y)" if dims == 1 else "a list of (x, y)"
        raise InputError(
            f"{name}={positions!r}: must be {allowed} with both coordinates in [−{HALF_WIDTH}, {HALF_WIDTH}]"
        )
