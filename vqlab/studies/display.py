"""Short descriptions of tables for ``__repr__`` and ``_repr_html_``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vqlab.quantize.display import summary_html

if TYPE_CHECKING:
    import pandas as pd

_MAX_ROWS = 40


def count_finished(rows: pd.DataFrame) -> str:
    """Write how many rows are finished.

    Args:
        rows: rows with the column ``error``, empty for a finished row.

    Returns:
        As "3 of 4".
    """
    return f"{(rows['error'] == '').sum()} of {len(rows)}"


def finished_values(rows: pd.DataFrame, measure: str) -> pd.Series:
    """Select the values of a measure in the finished rows.

    Args:
        rows: rows with the column ``error``, empty for a finished row.
        measure: name of a column; it need not exist.

    Returns:
        The values, without NaN.
    """
    import pandas as pd

    if measure not in rows:
        return pd.Series(dtype=float)
    return rows.loc[rows["error"] == "", measure].dropna()


def table_html(title: str, numbers: Mapping[str, str], table: pd.DataFrame, *, index: bool = True) -> str:
    """Build an HTML card with a table; all text is escaped.

    Args:
        title: heading of the card.
        numbers: formatted values by name.
        table: the table; of more than 40 rows, the first and the last ones are shown.
        index: show the index of the table.

    Returns:
        One HTML element.
    """
    text = table.to_html(
        escape=True, border=0, index=index, max_rows=_MAX_ROWS, na_rep="", float_format="{:.4g}".format
    )
    return summary_html(title, numbers, text)
