"""The ordered notebooks by papermill, each as an offline page, and an index over them."""

from __future__ import annotations

import base64
import html
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqlab.errors import InputError

if TYPE_CHECKING:
    from nbformat import NotebookNode

HEADLINE = "headline"
_STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(20rem,1fr));gap:1.2rem}
.card{border:1px solid #8888;border-radius:.6rem;padding:1rem;overflow-x:auto}
.card h2{font-size:1.1rem;margin:0 0 .4rem}
.card img{width:100%;background:#fff}
.card table{font-size:.8rem;border-collapse:collapse}
.card th,.card td{padding:.1rem .5rem;text-align:right}
.failed{border-color:#d55e00;border-width:2px}
pre{white-space:pre-wrap;font-size:.8rem}
"""


@dataclass(frozen=True)
class Card:
    """One notebook in the report: what became of it, and what its cells tagged ``headline`` show."""

    name: str
    title: str
    seconds: float
    error: str | None
    failing_cell: str
    picture: bytes | None
    table: str


def notebooks_folder() -> Path:
    """Where the ordered notebooks are: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent
    for folder in (package / "_notebooks", package.parent / "notebooks"):
        if folder.is_dir():
            return folder
    raise InputError("notebooks: not found beside or inside vqlab; install it again")


def run_notebooks(
    parameters: dict[str, Any],
    output: Path,
    say: Callable[[str], None],
    folder: Path | None = None,
    figures: Path | None = None,
) -> tuple[Path, int]:
    """Execute every numbered notebook with ``parameters``; returns the index page and the number that failed.

    folder: where the notebooks are, the project's own unless named. figures: a folder that gets each
    notebook's headline picture as NAME.png. A failed notebook stays in the report with the cell and its
    error. Raises InputError for a folder without notebooks or a parameter that a notebook lacks.
    """
    sources = sorted((folder or notebooks_folder()).glob("[0-9][0-9]_*.ipynb"))
    if not sources:
        raise InputError(f"notebooks: no NN_name.ipynb in {folder}")
    for source in sources:
        _check_parameters(source, parameters)
    output.mkdir(parents=True, exist_ok=True)
    cards = []
    for number, source in enumerate(sources, 1):
        card = _execute(source, output / source.name, parameters)
        outcome = "ok" if card.error is None else f"FAILED: {card.error}"
        say(f"[{number}/{len(sources)}] {card.name}: {outcome} ({card.seconds:.0f} s)")
        cards.append(card)
        if figures and card.picture:
            figures.mkdir(parents=True, exist_ok=True)
            (figures / f"{card.name}.png").write_bytes(card.picture)
    index = output.resolve() / "index.html"
    index.write_text(_index(cards, parameters))
    return index, sum(card.error is not None for card in cards)


def _check_parameters(source: Path, parameters: dict[str, Any]) -> None:
    import papermill

    unknown = set(parameters) - set(papermill.inspect_notebook(str(source)))
    if unknown:
        raise InputError(f"{source.name}: has no parameter {', '.join(sorted(unknown))}")


def _execute(source: Path, target: Path, parameters: dict[str, Any]) -> Card:
    import nbformat
    import papermill

    began = time.perf_counter()
    error, failing = None, ""
    try:
        papermill.execute_notebook(
            str(source), str(target), parameters, kernel_name="python3",
            progress_bar={"desc": source.stem, "disable": None, "leave": False},
            # Without this the kernel warns on every start about its loopback socket.
            extra_arguments=["--IPKernelApp.log_level=40"],
        )  # fmt: skip
    except papermill.PapermillExecutionError as caught:
        error, failing = f"cell {caught.exec_count}: {caught.ename}: {caught.evalue}", caught.source
    notebook = nbformat.read(target, as_version=4)
    _page(notebook, target.with_suffix(".html"))
    return Card(
        source.stem, _title(notebook, source.stem), time.perf_counter() - began, error, failing,
        *_headline(notebook),
    )  # fmt: skip


def _title(notebook: NotebookNode, default: str) -> str:
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("# "):
            return cell.source.splitlines()[0][2:]
    return default


def _headline(notebook: NotebookNode) -> tuple[bytes | None, str]:
    """The first picture and the first table among the outputs of cells tagged ``headline``."""
    shown = [
        output.data
        for cell in notebook.cells
        if cell.cell_type == "code" and HEADLINE in cell.metadata.get("tags", [])
        for output in cell.outputs
        if "data" in output
    ]
    picture = next((base64.b64decode(data["image/png"]) for data in shown if "image/png" in data), None)
    table = next((data["text/html"] for data in shown if "<table" in data.get("text/html", "")), "")
    return picture, table


def _page(notebook: NotebookNode, path: Path) -> None:
    """The executed notebook as HTML with its pictures inside and nothing fetched from elsewhere."""
    from nbconvert import HTMLExporter

    body, _ = HTMLExporter(mathjax_url="", require_js_url="", jquery_url="").from_notebook_node(notebook)
    path.write_text(body)


def _index(cards: list[Card], parameters: dict[str, Any]) -> str:
    asked = html.escape(", ".join(f"{key} = {value}" for key, value in parameters.items() if key != "runs"))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>vqlab report</title>'
        f'<style>{_STYLE}</style><h1>vqlab report</h1><p>{asked}</p><div class="cards">'
        f"{''.join(map(_card, cards))}</div></html>\n"
    )


def _card(card: Card) -> str:
    state = "ok" if card.error is None else "failed"
    picture = (
        f'<img alt="{html.escape(card.title)}" src="data:image/png;base64,{base64.b64encode(card.picture).decode()}">'
        if card.picture
        else ""
    )
    failure = (
        f"<p><b>{html.escape(card.error)}</b></p><pre>{html.escape(card.failing_cell)}</pre>" if card.error else ""
    )
    link = f'<a href="{card.name}.html">{html.escape(card.name[:2])} {html.escape(card.title)}</a>'
    body = f"<h2>{link}</h2><p>{state}, {card.seconds:.0f} s</p>{failure}{picture}{card.table}"
    return f'<section class="card {state}">{body}</section>'
