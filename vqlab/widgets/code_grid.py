"""Widget that shows a grid of codes; cells are selected by click, drag or keyboard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anywidget
import traitlets

from vqlab.widgets.components import widget_script


class CodeGrid(anywidget.AnyWidget):
    """Grid of codes, each drawn as its image patch.

    A click selects a cell; arrow keys, Home and End move the focus, and Enter or Space selects the focused cell.
    Every attribute is synchronised with the browser.

    Attributes:
        cells: codes, row by row; −1 is drawn as a grey cell without a code.
        link: name of the CodeLink of the explorer.
        sprite: data URL of one image that holds the patches of all codes, in a square, row by row.
        num_codes: number of codes K in the sprite.
        selects: whether a chosen cell selects its code, in the browser and without the kernel.
        flow: whether the cells fill lines of the width of the page, instead of the rows of ``cells``.
        show_codes: whether each cell shows its code as a number.
        drag: whether moving the pressed pointer selects every cell that it enters.
        label: name of the grid for screen readers.
    """

    _esm = widget_script(("code_link", "code_grid"), "kernel", "code_grid_widget")
    link = traitlets.Unicode(help="name of the CodeLink").tag(sync=True)
    cells = traitlets.List(traitlets.List(traitlets.Int()), help="codes, row by row").tag(sync=True)
    sprite = traitlets.Unicode(help="data URL of the patches of all codes").tag(sync=True)
    num_codes = traitlets.Int(1, help="number of codes").tag(sync=True)
    selects = traitlets.Bool(False, help="a chosen cell selects its code").tag(sync=True)
    flow = traitlets.Bool(False, help="fill lines of the width of the page").tag(sync=True)
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
