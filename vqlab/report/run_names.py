"""The Runs behind the tables and figures of a notebook, stated below each with the command that reproduces them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from html import escape
from pathlib import Path
from typing import Any

from vqlab.studies import GridTable, StudyTable
from vqlab.training import Run

_SHOWN = 3
_STYLE = "font-size:85%;opacity:.8"
# Tables, figures and explorers, by the library of a class that they extend.
_LIBRARIES = {"pandas", "matplotlib", "plotly", "traitlets"}
_DEPTH = 3


def name_runs() -> None:
    """State below each table, figure and explorer of this notebook from which Runs it was made.

    The Runs are those of the variables that the cell uses, and of what they were computed from in earlier cells.
    Outside of a notebook nothing happens; a second call replaces the first one.
    """
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    if shell is None:
        return
    for earlier in [callback for callback in shell.events.callbacks["post_run_cell"] if hasattr(callback, "sources")]:
        shell.events.unregister("post_run_cell", earlier)
    shell.events.register("post_run_cell", _RunNames(shell.user_ns))


def runs_of(value: Any, depth: int = _DEPTH) -> list[Path]:
    """Find the folders of the Runs that a value holds.

    Args:
        value: a Run, the table of a study or a grid, the study of a tuning, or a dict, list or dataclass of these.
        depth: how deep they are looked for. Default 3.

    Returns:
        The folders in their order, each once.
    """
    return list(dict.fromkeys(_folders(value, depth)))


def reproduce_line(folders: list[Path]) -> str:
    """Say from which Runs a table or figure was made, and how they are reproduced.

    Args:
        folders: folders of the Runs, at least one.

    Returns:
        One line; of more than three Runs, the first ones are named.

    Example:
        >>> reproduce_line([Path("runs/1a2b"), Path("runs/3c4d")])
        'Runs 1a2b, 3c4d. To reproduce one: vqlab reproduce runs/1a2b'
    """
    names = ", ".join(folder.name for folder in folders[:_SHOWN])
    more = f" and {len(folders) - _SHOWN} more" if len(folders) > _SHOWN else ""
    what, one = ("Runs", "one") if len(folders) > 1 else ("Run", "it")
    return f"{what} {names}{more}. To reproduce {one}: vqlab reproduce {_short(folders[0])}"


class _RunNames:
    """Callback after each cell: shows the line, and notes from which Runs the variables of the cell were made."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self.variables, self.sources = variables, dict[str, list[Path]]()

    def __call__(self, result: Any) -> None:
        folders: list[Path] = []
        for used, assigned in _statements(result.info.raw_cell):
            found = [runs_of(self.variables.get(name)) or self.sources.get(name, []) for name in used]
            folders = list(dict.fromkeys(folder for folders in found for folder in folders))
            self.sources.update(dict.fromkeys(assigned, folders))
        # What is shown is the value of the last statement.
        if result.success and folders and _is_shown(result.result):
            from IPython.display import display

            display(_Line(folders))


class _Line:
    """The line as text, and as HTML with all Runs."""

    def __init__(self, folders: list[Path]) -> None:
        self.folders = folders

    def __repr__(self) -> str:
        return reproduce_line(self.folders)

    def _repr_html_(self) -> str:
        line = escape(repr(self))
        if len(self.folders) <= _SHOWN:
            return f'<div style="{_STYLE}">{line}</div>'
        names = escape(", ".join(map(_short, self.folders)))
        return f'<details style="{_STYLE}"><summary>{line}</summary>{names}</details>'


def _folders(value: Any, depth: int) -> Iterator[Path]:
    if isinstance(value, Run):
        yield value.folder
    elif isinstance(value, StudyTable | GridTable):
        yield from (value.root / run for run in value.rows["run"][value.rows["error"] == ""])
    elif hasattr(value, "get_trials") and hasattr(value, "user_attrs"):  # of Optuna, whose import takes a second
        rows = [trial.user_attrs.get("row") for trial in value.get_trials(deepcopy=False)]
        yield from (Path("runs") / str(row["run"]) for row in rows if isinstance(row, dict) and "run" in row)
    elif depth and isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _folders(item, depth - 1)
    elif depth and is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _folders(getattr(value, field.name), depth - 1)


def _statements(source: str) -> Iterator[tuple[list[str], list[str]]]:
    """Variables that each statement of a cell uses and assigns."""
    try:
        statements = ast.parse(source).body
    except SyntaxError:  # a cell with commands of IPython
        return
    for statement in statements:
        nodes = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
        used, assigned = ([node.id for node in nodes if isinstance(node.ctx, kind)] for kind in (ast.Load, ast.Store))
        yield list(dict.fromkeys(used)), list(dict.fromkeys(assigned))


def _is_shown(value: Any) -> bool:
    libraries = {kind.__module__.partition(".")[0] for kind in type(value).__mro__}
    return isinstance(value, StudyTable | GridTable) or bool(libraries & _LIBRARIES)


def _short(folder: Path) -> str:
    return f"{folder.parent.name or 'runs'}/{folder.name}"
