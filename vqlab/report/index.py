"""Index page of a report: a card for each notebook."""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqlab.report.cards import CARD_STYLE, card_html, grid_style
from vqlab.report.finding import MIME_TYPE
from vqlab.report.notebook_result import NotebookResult
from vqlab.versions import package_version

if TYPE_CHECKING:
    from nbformat import NotebookNode

HEADLINE_TAG = "headline"
_RELOAD_SECONDS = 5
_STYLE = """
:root{color-scheme:light dark;--page:#fafafa;--card:#fff;--box:#eee;--line:#ccc;--faint:#5a5a5a;--link:#00598c;
 --failed:#b34700}
@media(prefers-color-scheme:dark){:root{--page:#151515;--card:#1f1f1f;--box:#2b2b2b;--line:#444;--faint:#aaa;
 --link:#7cc4f0;--failed:#ff9a52}}
body{font:15px/1.45 system-ui,sans-serif;max-width:124rem;margin:1.4rem auto;padding:0 1.4rem;background:var(--page)}
h1{font-size:1.5rem;margin:0}
a{color:var(--link)}
.about{margin:.2rem 0 1.2rem;color:var(--faint)}
"""


def read_cells(path: Path) -> list[dict[str, Any]]:
    """Read the cells of a notebook file without the library nbformat, whose import takes seconds.

    Args:
        path: the file.

    Returns:
        ``kind``, ``source`` and ``tags`` of each cell; an empty list if the file cannot be read.
    """
    try:
        return [
            {"kind": cell["cell_type"], "source": "".join(cell["source"]), "tags": cell["metadata"].get("tags", [])}
            for cell in json.loads(path.read_text())["cells"]
        ]
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
    ):  # a damaged notebook is reported when it is executed
        return []


def read_title(path: Path) -> str:
    """Read the title of a notebook file: its first heading.

    Args:
        path: the file ``NN_name.ipynb``.

    Returns:
        The heading without its ``#``; the name in words if the file has no heading or cannot be read.
    """
    sources = (cell["source"] for cell in read_cells(path) if cell["kind"] == "markdown")
    headings = (source.splitlines()[0][2:] for source in sources if source.startswith("# "))
    return next(headings, path.stem[2:].replace("_", " ").strip())


def headline_picture(notebook: NotebookNode) -> bytes | None:
    """Select the first picture among the outputs of the cells tagged ``headline``.

    Args:
        notebook: an executed notebook.

    Returns:
        The picture as PNG, or None.
    """
    outputs = _outputs(notebook, HEADLINE_TAG)
    return next((base64.b64decode(data["image/png"]) for data in outputs if "image/png" in data), None)


def last_finding(notebook: NotebookNode) -> dict[str, Any] | None:
    """Select the last finding that a notebook displays.

    Args:
        notebook: an executed notebook.

    Returns:
        ``Finding.content``, or None.
    """
    return next((data[MIME_TYPE] for data in reversed(_outputs(notebook)) if MIME_TYPE in data), None)


def _outputs(notebook: NotebookNode, tag: str | None = None) -> list[dict[str, Any]]:
    """Representations by MIME type of each output, of all code cells or of those with a tag."""
    return [
        output.data
        for cell in notebook.cells
        if cell.cell_type == "code" and (tag is None or tag in cell.metadata.get("tags", []))
        for output in cell.outputs
        if "data" in output
    ]


def index_page(results: list[NotebookResult], parameters: dict[str, Any]) -> str:
    """Create the index page: the parameters, the versions, and for each notebook a card that links to its page.

    While a notebook has not ended, the page loads itself again every few seconds.

    Args:
        results: one entry for each notebook, in the order of the cards.
        parameters: the parameters of all notebooks by name; ``runs``, a local path, is not shown.

    Returns:
        The HTML document.
    """
    settings = html.escape(", ".join(f"{key} = {value}" for key, value in parameters.items() if key != "runs"))
    versions = html.escape(", ".join(f"{name} {version}" for name, version in _versions().items()))
    reload = f'<meta http-equiv="refresh" content="{_RELOAD_SECONDS}">' if any(r.pending for r in results) else ""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8">{reload}<title>vqlab report</title>'
        f"<style>{_STYLE}{CARD_STYLE}{grid_style(len(results))}</style><h1>vqlab report</h1>"
        f'<p class="about">{settings} · {versions}</p>'
        f'<div class="cards">{"".join(map(card_html, results))}</div></html>\n'
    )


def _versions() -> dict[str, str | None]:
    return {name: package_version(name) for name in ("vqlab", "torch", "torchvision")}
