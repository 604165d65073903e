"""HTML cards and SVG bar charts for the ``_repr_html_`` methods of the project; standard library only."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from html import escape

_MAX_BARS = 64
_WIDTH, _PLOT_HEIGHT, _LINE_HEIGHT = 320, 64, 13
_CAPTION_CHARACTERS = 56
# Blue of Okabe and Ito's palette for colour-blind readers: contrast above 3 on white and on dark themes.
_BAR_COLOUR = "#0072B2"
_CARD_STYLE = (
    "display:inline-block;max-width:100%;box-sizing:border-box;padding:8px 14px;"
    "border:1px solid rgba(128,128,128,0.5);border-radius:6px;color:inherit;background:transparent"
)
# Tables do not inherit colour and font in pages without a doctype.
_TABLE_STYLE = "margin:4px 0;border:0;border-collapse:collapse;color:inherit;font:inherit"
_CELL_STYLE = "padding:1px 14px 1px 0;border:0;background:transparent;color:inherit"


def summary_html(title: str, numbers: Mapping[str, str], picture: str = "") -> str:
    """Build an HTML card with a title, a table of named numbers and a picture.

    The card takes its text colour from the page and has no background, so that it is readable in light and dark
    notebook themes. It needs no style sheet and no script.

    Args:
        title: Heading of the card, as plain text. It is escaped.
        numbers: Formatted values by name, one row each, in the given order. Names and values are escaped.
        picture: SVG markup below the table, for example from ``bar_chart_svg``. It is inserted as it is, so it must
            not contain text from outside that is not escaped. Default: no picture.

    Returns:
        One HTML ``<div>`` element.

    Example:
        >>> "<b>" in summary_html("<b>", {"codes": "512"})
        False
    """
    rows = "".join(
        f'<tr style="background:transparent">'
        f'<th scope="row" style="{_CELL_STYLE};text-align:left;font-weight:normal">{escape(name)}</th>'
        f'<td style="{_CELL_STYLE};text-align:right">{escape(value)}</td></tr>'
        for name, value in numbers.items()
    )
    table = f'<table style="{_TABLE_STYLE}">{rows}</table>' if rows else ""
    return f'<div style="{_CARD_STYLE}"><div style="font-weight:600">{escape(title)}</div>{table}{picture}</div>'


def bar_chart_svg(values: Sequence[float], caption: str) -> str:
    """Draw a small bar chart as inline SVG.

    Text has the colour of the page (``currentColor``), all bars have one colour, and the caption is also the
    accessible ``<title>`` of the picture. The largest bar has its value at the top. More than 64 values are pooled:
    each bar is then the mean of a group of neighbouring values, and the caption states the size of the group.

    Args:
        values: Heights of the bars from left to right, at least 0. Negative and non-finite values are drawn as 0.
        caption: What the bars show, with unit and order, as plain text. It is escaped and wrapped.

    Returns:
        One ``<svg>`` element of 320 pixels width.

    Example:
        >>> bar_chart_svg([3, 1, 2], "tokens per code").count("<rect")
        3
    """
    group = max(1, math.ceil(len(values) / _MAX_BARS))
    heights = _pool(values, group)
    if not heights:
        caption = f"{caption}: no values"
    elif group > 1:
        caption = f"{caption}; each bar is the mean of {group} values"
    lines = textwrap.wrap(caption, _CAPTION_CHARACTERS)
    base = _LINE_HEIGHT + _PLOT_HEIGHT
    height = base + _LINE_HEIGHT * len(lines) + 6
    texts = [_text(_number(max(heights)), _LINE_HEIGHT - 3)] if heights else []
    texts += [_text(line, base + _LINE_HEIGHT * (index + 1)) for index, line in enumerate(lines)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" style="max-width:100%;color:inherit"><title>{escape(caption)}</title>'
        f"{''.join(_bars(heights, base))}"
        f'<line x1="0" y1="{base}" x2="{_WIDTH}" y2="{base}" stroke="currentColor" stroke-opacity="0.5"/>'
        f"{''.join(texts)}</svg>"
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if 999.5 <= value < 1e9 else f"{value:.3g}"


def _pool(values: Sequence[float], group: int) -> list[float]:
    valid = [max(0.0, float(value)) if math.isfinite(value) else 0.0 for value in values]
    groups = [valid[start : start + group] for start in range(0, len(valid), group)]
    return [sum(part) / len(part) for part in groups]


def _bars(heights: Sequence[float], base: int) -> list[str]:
    largest = max(heights, default=0.0) or 1.0
    step = _WIDTH / max(1, len(heights))
    return [
        f'<rect x="{index * step:.2f}" y="{base - _PLOT_HEIGHT * (height / largest):.2f}" width="{0.85 * step:.2f}" '
        f'height="{_PLOT_HEIGHT * (height / largest):.2f}" fill="{_BAR_COLOUR}"/>'
        for index, height in enumerate(heights)
    ]


def _text(line: str, y: int) -> str:
    return f'<text x="0" y="{y}" font-size="11" font-family="sans-serif" fill="currentColor">{escape(line)}</text>'
