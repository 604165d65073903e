"""Executed notebooks as web pages that work offline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqlab.files import write_atomic

if TYPE_CHECKING:
    from nbformat import NotebookNode

_PLOTLY_MIME_TYPE = "application/vnd.plotly.v1+json"
_PLOTLY_SCRIPT = "plotly.min.js"


def write_page(notebook: NotebookNode, path: Path) -> None:
    """Write an executed notebook as a web page that loads nothing from a network.

    Code is folded, and parameters are shown once: their defaults are left out if papermill has added its values.
    LaTeX in markdown is typeset, and pictures are embedded. plotly figures stay interactive; their script (5 MB) is
    written once into the folder and used by all pages there.

    Args:
        notebook: the executed notebook; its plotly outputs are converted to HTML in place, and the cell of default
            parameters is removed.
        path: the page to write; its folder must exist.
    """
    has_plotly = _convert_plotly_outputs(notebook)
    tags = [set(cell.metadata.get("tags", [])) for cell in notebook.cells]
    if any("injected-parameters" in of_cell for of_cell in tags):
        shown = [cell for cell, of_cell in zip(notebook.cells, tags, strict=True) if "parameters" not in of_cell]
        notebook.cells = shown
    path.write_text(_page_html(notebook))
    if has_plotly and not (path.parent / _PLOTLY_SCRIPT).is_file():
        from plotly.offline import get_plotlyjs

        write_atomic(path.parent / _PLOTLY_SCRIPT, lambda temporary: temporary.write_text(get_plotlyjs()))


def fill_caches() -> None:
    """Export a small notebook, which compiles the templates and the expressions that all pages need.

    It takes as long as a page itself; processes forked afterwards write their pages in half the time.
    """
    from nbformat import validate
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

    figure = {"data": [{"type": "scatter", "y": [0, 1]}], "layout": {"title": {"text": "a title"}}}
    outputs = [
        new_output("stream", text="text"),
        new_output("execute_result", {"text/html": "<b>text</b>", "text/plain": "text"}),
        new_output("display_data", {"image/png": "", "text/plain": "figure"}),
        new_output("display_data", {_PLOTLY_MIME_TYPE: figure}),
    ]
    code = new_code_cell("from a import b\n\nb(1, 'text')  # comment", outputs=outputs, execution_count=1)
    notebook = new_notebook(cells=[new_markdown_cell("# A *title*\n\n- `code`, $x^2$ and [a](b)\n"), code])
    validate(notebook)
    _convert_plotly_outputs(notebook)
    _page_html(notebook)


def _page_html(notebook: NotebookNode) -> str:
    from vqlab.report.page_exporter import page_exporter

    return page_exporter().from_notebook_node(notebook)[0]


def _convert_plotly_outputs(notebook: NotebookNode) -> bool:
    """Replace plotly's JSON by HTML in all outputs; return whether there was any."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    figures = [output.data for output in outputs if _PLOTLY_MIME_TYPE in output.get("data", {})]
    for index, data in enumerate(figures):
        data["text/html"] = _figure_html(data.pop(_PLOTLY_MIME_TYPE), load_script=index == 0)
    return bool(figures)


def _figure_html(figure: dict[str, Any], *, load_script: bool) -> str:
    from plotly.io import to_html

    parts = {key: figure[key] for key in ("data", "layout", "frames") if key in figure}
    html = to_html(parts, include_plotlyjs=False, full_html=False, auto_play=False, validate=False)
    return f'<script src="{_PLOTLY_SCRIPT}"></script>{html}' if load_script else html
