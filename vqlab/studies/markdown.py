"""Tables as Markdown, for a README or a paper's draft."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def markdown(table: pd.DataFrame, *, index: bool = True) -> str:
    """The table in Markdown's pipes, numbers to four digits; index: the index as first column, without a header."""
    header = [*([""] if index else []), *map(str, table.columns)]
    rows = [[*([name] if index else []), *row] for name, row in zip(table.index, table.to_numpy(object), strict=True)]
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: Any) -> str:
    return (f"{value:.4g}" if isinstance(value, float) else str(value)).replace("|", "\\|")
