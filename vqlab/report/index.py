"""Index page of a report: a card for each notebook."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vqlab.training.provenance import package_version

if TYPE_CHECKING:
    from nbformat import NotebookNode

HEADLINE_TAG = "headline"
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
class NotebookResult:
    """Outcome of an executed notebook, for its card on the index page.

    Attributes:
        name: file name without ``.ipynb``; starts with the two digits of the notebook's number.
        title: first heading.
        seconds: execution time.
        error: the reason of a failure, as the failed cell's number, exception and message; None without a failure.
        failing_cell: source of the failed cell, or an empty string.
        picture: PNG of the first picture of the cells tagged ``headline``, or None.
        table: HTML of their first table, or an empty string.
        pending: ``waiting`` or ``running`` before the notebook has ended, then an empty string.
    """

    name: str
    title: str
    seconds: float
    error: str | None
    failing_cell: str
    picture: bytes | None
    table: str
    pending: str = ""

    @classmethod
    def unfinished(cls, name: str, pending: str) -> NotebookResult:
        """Describe a notebook that has not ended.

        Args:
            name: file name without ``.ipynb``.
            pending: ``waiting`` or ``running``.

        Returns:
            A result without content.
        """
        return cls(name, name, 0.0, None, "", None, "", pending)

    @property
    def state(self) -> str:
        """``waiting``, ``running``, ``ok`` or ``FAILED``."""
        return self.pending or ("ok" if self.error is None else "FAILED")


def notebook_title(notebook: NotebookNode, default: str) -> str:
    """Return the first heading of a notebook.

    Args:
        notebook: the notebook.
        default: what to return if no markdown cell starts with a heading.

    Returns:
        The heading without its ``#``.
    """
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("# "):
            return cell.source.splitlines()[0][2:]
    return default


def headline_outputs(notebook: NotebookNode) -> tuple[bytes | None, str]:
    """Select the first picture and the first table among the outputs of the cells tagged ``headline``.

    Args:
        notebook: an executed notebook.

    Returns:
        The picture as PNG, or None; and the table as HTML, or an empty string.
    """
    outputs = [
        output.data
        for cell in notebook.cells
        if cell.cell_type == "code" and HEADLINE_TAG in cell.metadata.get("tags", [])
        for output in cell.outputs
        if "data" in output
    ]
    picture = next((base64.b64decode(data["image/png"]) for data in outputs if "image/png" in data), None)
    table = next((data["text/html"] for data in outputs if "<table" in data.get("text/html", "")), "")
    return picture, table


def index_page(results: list[NotebookResult], parameters: dict[str, Any]) -> str:
    """Create the index page: the parameters, the versions, and for each notebook a card that links to its page.

    Args:
        results: one entry for each notebook, in the order of the cards.
        parameters: the parameters of all notebooks by name; ``runs``, a local path, is not shown.

    Returns:
        The HTML document.
    """
    settings = html.escape(", ".join(f"{key} = {value}" for key, value in parameters.items() if key != "runs"))
    versions = html.escape(", ".join(f"{name} {version}" for name, version in _versions().items()))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>vqlab report</title>'
        f'<style>{_STYLE}</style><h1>vqlab report</h1><p>{settings}<br>{versions}</p><div class="cards">'
        f"{''.join(map(_card_html, results))}</div></html>\n"
    )


def _versions() -> dict[str, str | None]:
    return {name: package_version(name) for name in ("vqlab", "torch", "torchvision")}


def _card_html(result: NotebookResult) -> str:
    title = html.escape(result.title)
    picture = (
        f'<img alt="{title}" src="data:image/png;base64,{base64.b64encode(result.picture).decode()}">'
        if result.picture
        else ""
    )
    failure = (
        f"<p><b>{html.escape(result.error)}</b></p><pre>{html.escape(result.failing_cell)}</pre>"
        if result.error
        else ""
    )
    heading = f"{html.escape(result.name[:2])} {title}"
    # A notebook that could not be read has no page.
    has_page = not result.pending and (result.error is None or bool(result.failing_cell))
    link = f'<a href="{result.name}.html">{heading}</a>' if has_page else heading
    state = result.state if result.pending else f"{result.state}, {result.seconds:.0f} s"
    body = f"<h2>{link}</h2><p>{state}</p>{failure}{picture}{result.table}"
    return f'<section class="card {result.state.lower()}">{body}</section>'
