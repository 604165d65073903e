"""The ordered notebooks by papermill, each as an offline page, and an index over them."""

from __future__ import annotations

import html
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vqlab.errors import InputError


def notebooks_folder() -> Path:
    """Where the ordered notebooks are: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent
    for folder in (package / "_notebooks", package.parent / "notebooks"):
        if folder.is_dir():
            return folder
    raise InputError("notebooks: not found beside or inside vqlab; install it again")


def run_notebooks(parameters: dict[str, Any], output: Path, say: Callable[[str], None]) -> tuple[Path, int]:
    """Execute every numbered notebook with ``parameters``; returns the index page and the number that failed.

    A failed notebook stays in the report with its error. Raises InputError for a parameter that a notebook lacks.
    """
    output.mkdir(parents=True, exist_ok=True)
    sources = sorted(notebooks_folder().glob("[0-9][0-9]_*.ipynb"))
    cards = []
    for number, source in enumerate(sources, 1):
        began = time.perf_counter()
        error = _execute(source, output / source.name, parameters)
        seconds = time.perf_counter() - began
        _page(output / source.name)
        cards.append((source.stem, error, seconds))
        outcome = "ok" if error is None else f"FAILED: {error}"
        say(f"[{number}/{len(sources)}] {source.stem}: {outcome} ({seconds:.0f} s)")
    index = output.resolve() / "index.html"
    index.write_text(_index(cards, parameters))
    return index, sum(error is not None for _, error, _ in cards)


def _execute(source: Path, target: Path, parameters: dict[str, Any]) -> str | None:
    import papermill

    unknown = set(parameters) - set(papermill.inspect_notebook(str(source)))
    if unknown:
        raise InputError(f"{source.name}: has no parameter {', '.join(sorted(unknown))}")
    try:
        papermill.execute_notebook(str(source), str(target), parameters, kernel_name="python3", progress_bar=False)
    except papermill.PapermillExecutionError as error:
        return f"cell {error.exec_count}: {error.ename}: {error.evalue}"
    return None


def _page(notebook: Path) -> None:
    """The executed notebook as HTML with its pictures inside and nothing fetched from elsewhere."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(mathjax_url="", require_js_url="", jquery_url="")
    body, _ = exporter.from_filename(str(notebook))
    notebook.with_suffix(".html").write_text(body)


def _index(cards: list[tuple[str, str | None, float]], parameters: dict[str, Any]) -> str:
    rows = "".join(
        f'<li><a href="{name}.html">{name}</a> <b>{"ok" if error is None else "failed"}</b> {seconds:.0f} s'
        f"{'' if error is None else '<pre>' + html.escape(error) + '</pre>'}</li>"
        for name, error, seconds in cards
    )
    asked = html.escape(", ".join(f"{key}={value}" for key, value in parameters.items() if key != "runs"))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>vqlab report</title>'
        "<style>body{font:16px/1.6 sans-serif;max-width:48rem;margin:3rem auto;padding:0 1rem}"
        "li{margin:.6rem 0}pre{white-space:pre-wrap}</style>"
        f"<h1>vqlab report</h1><p>{asked}</p><ol start=0>{rows}</ol></html>\n"
    )
