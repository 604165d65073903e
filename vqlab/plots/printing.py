"""A printed figure that a notebook shows by itself; imported when a figure is drawn."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class PrintedFigure(Figure):
    """A matplotlib Figure that is its own picture.

    Jupyter draws a plain Figure only where pyplot's inline backend was started, and shows its name elsewhere.
    """

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        self.savefig(picture, format="png", bbox_inches="tight")
        return picture.getvalue()
