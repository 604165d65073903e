"""A grid of codes to click, drag over or walk with the arrow keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

_STATIC = Path(__file__).parent / "static"


class CodeGrid(anywidget.AnyWidget):
    """Rows of codes, each drawn as its patch of ``sprite``; a chosen cell calls what ``on_choose`` was given."""

    _esm = _STATIC / "code_grid.js"
    _css = _STATIC / "code_grid.css"
    cells = traitlets.List(traitlets.List(traitlets.Int()), help="codes, row by row").tag(sync=True)
    sprite = traitlets.Unicode(help="data URL: all codes' patches in one picture").tag(sync=True)
    sprite_columns = traitlets.Int(1, help="patches in a row of the sprite").tag(sync=True)
    marked = traitlets.List(traitlets.Int(), help="codes with a frame").tag(sync=True)
    size = traitlets.Int(28, help="side of a cell, pixels").tag(sync=True)
    numbers = traitlets.Bool(False, help="write each code into its cell").tag(sync=True)
    drag = traitlets.Bool(False, help="a pressed pointer chooses every cell that it enters").tag(sync=True)
    label = traitlets.Unicode("codes", help="read to people who listen to the page").tag(sync=True)

    def on_cell_chosen(self, call: Callable[[int, int], None]) -> None:
        """Have ``call(row, column)`` called for each chosen cell."""

        def heard(_: Any, content: Any, __: Any) -> None:
            row, column = content.get("row", -1), content.get("column", -1)
            # The page may speak of a cell that the grid has lost since.
            if 0 <= row < len(self.cells) and 0 <= column < len(self.cells[row]):
                call(row, column)

        self.on_msg(heard)
