"""Tables in Markdown, for a README or the draft of a paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def to_markdown(table: pd.DataFrame, *, index: bool = True) -> str:
    """Write a table in Markdown, floats with four significant digits.

    Args:
        table: the table.
        index: write the index as the first column, with an empty header.

    Returns:
        The lines of the table, without a line break at the end.

    Example:
        >>> import pandas as pd
        >>> print(to_markdown(pd.DataFrame({"PSNR (dB)": [23.45678]}, index=["RRT"])))
        |  | PSNR (dB) |
        | --- | --- |
        | RRT | 23.46 |
    """
    header = [*([""] if index else []), *map(str, table.columns)]
    rows = [[*([name] if index else []), *row] for name, row in zip(table.index, table.to_numpy(object), strict=True)]
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_format_cell, line))} |" for line in lines)


def _format_cell(value: Any) -> str:
    return (f"{value:.4g}" if isinstance(value, float) else str(value)).replace("|", "\\|")
