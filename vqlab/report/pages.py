"""An executed notebook as a page that works offline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqlab.training.files import write_atomic

if TYPE_CHECKING:
    from nbformat import NotebookNode

PLOTLY = "application/vnd.plotly.v1+json"
_SCRIPT = "plotly.min.js"


def write_page(notebook: NotebookNode, path: Path) -> None:
    """Write ``notebook`` to ``path`` with its pictures inside and nothing fetched from elsewhere.

    plotly figures stay live: their script, 5 MB, is written once beside the pages, which so stay small.
    """
    from nbconvert import HTMLExporter

    live = _plotly_as_html(notebook)
    exporter = HTMLExporter(mathjax_url="", require_js_url="", jquery_url="", mermaid_js_url="")
    body, _ = exporter.from_notebook_node(notebook)
    path.write_text(body)
    if live and not (path.parent / _SCRIPT).is_file():
        from plotly.offline import get_plotlyjs

        write_atomic(path.parent / _SCRIPT, lambda beside: beside.write_text(get_plotlyjs()))


def _plotly_as_html(notebook: NotebookNode) -> bool:
    """Turn plotly's data in the outputs into HTML; whether there was any."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    found = [output.data for output in outputs if PLOTLY in output.get("data", {})]
    for place, data in enumerate(found):
        data["text/html"] = _figure_html(data.pop(PLOTLY), load=place == 0)
    return bool(found)


def _figure_html(figure: dict[str, Any], *, load: bool) -> str:
    from plotly.io import to_html

    parts = {key: figure[key] for key in ("data", "layout", "frames") if key in figure}
    html = to_html(parts, include_plotlyjs=False, full_html=False, auto_play=False, validate=False)
    return f'<script src="{_SCRIPT}"></script>{html}' if load else html
