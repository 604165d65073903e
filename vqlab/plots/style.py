"""One look for all printed figures: seaborn's colour-blind palette, titles that say what is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def make_axes(
    columns: int, title: str, rows: int = 1, width: float = 4.2, height: float = 3.4
) -> tuple[Figure, list[Axes]]:
    """A figure of ``rows`` × ``columns`` axes, row by row; width and height of each in inches."""
    import seaborn as sns

    from vqlab.plots.printing import PrintedFigure

    sns.set_theme(style="whitegrid", palette="colorblind")
    figure = PrintedFigure(figsize=(width * columns, height * rows), layout="constrained")
    figure.suptitle(title)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def colours(count: int) -> list[tuple[float, float, float]]:
    """``count`` colours of the colour-blind palette, repeating after ten."""
    import seaborn as sns

    return list(sns.color_palette("colorblind", count))
