"""The index page: a card per notebook."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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


def title(notebook: NotebookNode, default: str) -> str:
    """The notebook's first heading."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("# "):
            return cell.source.splitlines()[0][2:]
    return default


def headline(notebook: NotebookNode) -> tuple[bytes | None, str]:
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


def index_page(cards: list[Card], parameters: dict[str, Any]) -> str:
    """The page that links the notebooks' pages, with what was asked for above."""
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
