"""The cards of the index page: one size, whatever the state of their notebook."""

from __future__ import annotations

import base64
from html import escape

from vqlab.report.finding import numbers_html, provenance_line
from vqlab.report.notebook_result import NotebookResult

# Smallest width of the page (px) and the numbers of columns that suit it.
_COLUMNS = ((0, (1,)), (720, (2,)), (1000, (2, 3)), (1240, (3, 4)), (1800, (4, 5)))
CARD_STYLE = """
.cards{display:grid;gap:1.1rem;grid-auto-rows:1fr}
.card{display:flex;flex-direction:column;gap:.55rem;min-width:0;min-height:24rem;overflow-wrap:anywhere;
 border:1px solid var(--line);border-radius:.6rem;padding:.9rem;background:var(--card)}
.card h2{font-size:1.05rem;line-height:1.3;margin:0}
.card p{margin:0}
.card .picture{display:flex;align-items:center;justify-content:center;aspect-ratio:2;border-radius:.4rem;
 overflow:hidden;color:var(--faint);background:var(--box)}
.card .picture:has(img){background:none}
.card img{width:100%;height:100%;object-fit:contain}
.card .numbers{display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:.45rem .8rem}
.card .numbers:has(:nth-child(4):last-child){grid-template-columns:repeat(2,minmax(0,1fr))}
.card .numbers div{line-height:1.3;font-size:.88rem}
.card .numbers b{font-size:1rem}
.card .foot{margin-top:auto;font-size:.78rem;color:var(--faint);line-height:1.4}
.card .state{font-weight:600}
.card.failed{border-color:var(--failed)}
.card.failed .state,.card .reason{color:var(--failed)}
.card .error{flex:1 1 7rem;height:0;min-height:7rem;overflow:auto;font-size:.8rem}
.card pre{white-space:pre-wrap;margin:.4rem 0 0}
"""


def card_html(result: NotebookResult) -> str:
    """Create the card of a notebook.

    Args:
        result: what is known of the notebook.

    Returns:
        A ``<section>``: the picture, the title as a link to the page if there is one, the finding or the reason of a
        failure, and a foot with the state, the seconds and the provenance.
    """
    heading = f"{escape(result.name[:2])} {escape(result.title)}"
    link = f'<a href="{escape(result.name)}.html">{heading}</a>' if result.has_page else heading
    body = _error_html(result) if result.error else _finding_html(result)
    return (
        f'<section class="card {result.state.lower()}">{_picture_html(result)}<h2>{link}</h2>{body}'
        f'<p class="foot">{_foot_html(result)}</p></section>'
    )


def grid_style(count: int) -> str:
    """Create the style of the grid: for each width of the page, the number of columns with the fewest gaps.

    Args:
        count: number of cards, at least 1.

    Returns:
        Media queries.

    Example:
        >>> "@media(min-width:1000px){.cards{grid-template-columns:repeat(2," in grid_style(14)
        True
    """
    rules = []
    for width, choices in _COLUMNS:
        columns = min(choices, key=lambda columns: (-count % columns, -columns))
        rules.append(
            f"@media(min-width:{width}px){{.cards{{grid-template-columns:repeat({columns},minmax(0,1fr))}}}}\n"
        )
    return "".join(rules)


def _picture_html(result: NotebookResult) -> str:
    if not result.picture:
        return f'<div class="picture">{escape(result.pending or "no picture")}</div>'
    source = f"data:image/png;base64,{base64.b64encode(result.picture).decode()}"
    return f'<div class="picture"><img alt="{escape(result.title)}" src="{source}"></div>'


def _finding_html(result: NotebookResult) -> str:
    if result.finding is None:
        return ""
    numbers = numbers_html(result.finding["numbers"])
    return f'<p>{escape(result.finding["sentence"])}</p><div class="numbers">{numbers}</div>'


def _error_html(result: NotebookResult) -> str:
    source = f"<pre>{escape(result.failing_cell)}</pre>" if result.failing_cell else ""
    return f'<div class="error" tabindex="0"><b class="reason">{escape(result.error or "")}</b>{source}</div>'


def _foot_html(result: NotebookResult) -> str:
    state = f'<span class="state">{result.state}</span>'
    seconds = "" if result.pending else f", {result.seconds:.0f} s"
    provenance = escape(provenance_line(result.finding["provenance"])) if result.finding else ""
    return f"{state}{seconds}" + (f" · {provenance}" if provenance else "")
