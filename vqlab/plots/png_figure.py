"""A matplotlib Figure that notebooks display as PNG; imports matplotlib, so import it only where a figure is drawn."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class PNGFigure(Figure):
    """A matplotlib Figure with a PNG representation for IPython.

    Jupyter displays a plain Figure as an image only if pyplot's inline backend is active, and as text otherwise.
    The constructor is that of ``matplotlib.figure.Figure``.
    """

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", bbox_inches="tight")
        return file.getvalue()
