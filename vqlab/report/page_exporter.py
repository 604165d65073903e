"""The exporter of notebook pages: mathematics becomes MathML, which browsers draw without a script.

It imports nbconvert, so import it only where a page is written.
"""

from __future__ import annotations

import re
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, ClassVar

from jinja2 import pass_context
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath, MathInlineParser

_TEMPLATES = Path(__file__).parent / "template"
# What latex2mathml leaves of a command or an environment that it does not know.
_UNREADABLE = re.compile(r"<mi>(?:\\|&</mi>)")


class PageExporter(HTMLExporter):
    """Export of a notebook as a page that loads nothing from a network.

    Args:
        **options: as for ``nbconvert.HTMLExporter``.
    """

    def __init__(self, **options: Any) -> None:
        urls = dict.fromkeys(("mathjax_url", "require_js_url", "jquery_url", "mermaid_js_url"), "")
        super().__init__(template_name="vqlab", extra_template_basedirs=[str(_TEMPLATES)], **urls, **options)

    @pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        """Render markdown, with mathematics as MathML.

        Args:
            context: context of the template, which holds the cell.
            source: the markdown.

        Returns:
            HTML.
        """
        renderer = _MathRenderer(escape=False, attachments=context.get("cell", {}).get("attachments", {}))
        return MarkdownWithMath(renderer, inline=_MathParser(hard_wrap=False)).render(source)


@cache
def page_exporter() -> PageExporter:
    """Build the exporter once for each process: it compiles its templates at its first page.

    Returns:
        The exporter.
    """
    return PageExporter()


class _MathParser(MathInlineParser):
    """Mathematics between dollar signs as pandoc reads it, so that amounts of money are text.

    The first $ is followed by a character, the second one follows a character and has no digit behind it.
    """

    SPECIFICATION: ClassVar[dict[str, str]] = {
        **MathInlineParser.SPECIFICATION,
        "inline_math_tex": r"(?<![$\\])\$(?=[^\s$])(?P<math_inline_tex>[^$`]*?[^$`\s\\])\$(?![$\d])",
    }


class _MathRenderer(IPythonRenderer):
    def inline_math(self, body: str) -> str:
        return mathml(body, "inline") or super().inline_math(body)

    def block_math(self, body: str) -> str:
        return mathml(body, "block") or super().block_math(body)

    def latex_environment(self, name: str, body: str) -> str:
        return mathml(rf"\begin{{{name}}}{body}\end{{{name}}}", "block") or super().latex_environment(name, body)


def mathml(latex: str, display: str = "inline") -> str:
    r"""Convert LaTeX to MathML.

    Args:
        latex: the formula without dollar signs.
        display: ``inline`` or ``block``.

    Returns:
        A ``<math>`` element that carries the LaTeX as ``alttext``; an empty string for LaTeX that cannot be read.

    Example:
        >>> mathml(r"\lambda").endswith("<mi>&#x003BB;</mi></mrow></math>")
        True
        >>> mathml(r"\frac{1"), mathml(r"\unknown")
        ('', '')
    """
    from latex2mathml.converter import convert

    if latex.count("{") != latex.count("}"):
        return ""
    try:
        element = convert(latex.strip(), display=display)
    except Exception:  # it raises many kinds, and each of them means that the LaTeX is not readable
        return ""
    if _UNREADABLE.search(element):
        return ""
    return element.replace("<math ", f'<math alttext="{escape(latex.strip())}" ', 1)
