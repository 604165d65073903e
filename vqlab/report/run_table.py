"""A live table of the notebooks of a report on a terminal; nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

# Name, state, seconds since the start (None before it), and the headline number (empty if there is none).
NotebookState = tuple[str, str, float | None, str]
States = Sequence[NotebookState]
_COLOURS = {"waiting": "dim", "running": "bold", "ok": "green", "FAILED": "red"}


@contextmanager
def run_table(states: Callable[[], States]) -> Iterator[Callable[[], None]]:
    """Show the notebooks while they run.

    Args:
        states: returns name, state, seconds and headline number of each notebook.

    Yields:
        A function that shows the present states; it does nothing if standard output is not a terminal.
    """
    if not sys.stdout.isatty():
        yield lambda: None
        return
    from rich.live import Live

    with Live(_table(states()), refresh_per_second=4, transient=True) as live:
        yield lambda: live.update(_table(states()))


def _table(states: States) -> Table:
    from rich.table import Table

    table = Table("notebook", "state", "seconds", "headline", box=None)
    table.columns[2].justify = "right"
    for name, state, seconds, headline in states:
        colour = _COLOURS[state]
        table.add_row(name, f"[{colour}]{state}[/{colour}]", "" if seconds is None else f"{seconds:.0f}", headline)
    return table
