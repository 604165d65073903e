"""Widget that shows a grid of codes; cells are selected by click, drag or keyboard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

_STATIC = Path(__file__).parent / "static"


class CodeGrid(anywidget.AnyWidget):
    """Grid of codes, each drawn as its image patch.

    A click selects a cell; arrow keys, Home and End move the focus, and Enter or Space selects the focused cell.
    Every attribute is synchronised with the browser.

    Attributes:
        cells: codes, row by row; −1 is drawn as a grey cell without a code.
        sprite: data URL of one image that holds the patches of all codes, row by row.
        sprite_columns: number of patches in a row of the sprite.
        selected: codes whose cells have a frame.
        cell_size: side of a cell in pixels, 28 by default.
        show_codes: whether each cell shows its code as a number.
        drag: whether moving the pressed pointer selects every cell that it enters.
        label: name of the grid for screen readers.
    """

    _esm = _STATIC / "code_grid.js"
    _css = _STATIC / "code_grid.css"
    cells = traitlets.List(traitlets.List(traitlets.Int()), help="codes, row by row").tag(sync=True)
    sprite = traitlets.Unicode(help="data URL of the patches of all codes").tag(sync=True)
    sprite_columns = traitlets.Int(1, help="patches in a row of the sprite").tag(sync=True)
    selected = traitlets.List(traitlets.Int(), help="codes with a frame").tag(sync=True)
    cell_size = traitlets.Int(28, help="side of a cell, pixels").tag(sync=True)
    show_codes = traitlets.Bool(False, help="show each code as a number").tag(sync=True)
    drag = traitlets.Bool(False, help="select every cell that the pressed pointer enters").tag(sync=True)
    label = traitlets.Unicode("codes", help="name for screen readers").tag(sync=True)

    def on_cell_chosen(self, callback: Callable[[int, int], None]) -> None:
        """Register a function that is called for each selected cell.

        Args:
            callback: called with the row and the column of the cell, both from 0.
        """

        def on_message(_: Any, content: Any, __: Any) -> None:
            row, column = content.get("row", -1), content.get("column", -1)
            # The grid may have become smaller since the browser sent the message.
            if 0 <= row < len(self.cells) and 0 <= column < len(self.cells[row]):
                callback(row, column)

        self.on_msg(on_message)
