"""Rows of studies and grids that have no measures: not trained yet, or failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vqlab.errors import ChangedDataError, InputError, WorkError

if TYPE_CHECKING:
    import pandas as pd

# In the column ``error``; all other texts say why a training failed.
UNFINISHED = "not finished yet"
_USAGE = tuple(f"{kind.__name__}: " for kind in (InputError, ChangedDataError))


def first_reasons(rows: pd.DataFrame) -> list[tuple[int, str]]:
    """Count the rows without measures by kind of reason.

    Args:
        rows: rows with the column ``error``.

    Returns:
        For each kind of error the number of rows and the reason of the first one.
    """
    errors = rows["error"][rows["error"] != ""]
    kinds = errors.groupby(errors.str.split(":").str[0], sort=False)
    return [(len(kind), str(kind.iloc[0])) for _, kind in kinds]


def none_finished(rows: pd.DataFrame, what: str, remedy: str) -> InputError:
    """Word the error for a table without a finished row.

    Args:
        rows: rows with the column ``error``.
        what: name of the table, and what its rows are, as ``grid own: no point``.
        remedy: what to do.

    Returns:
        An InputError with the reasons if all of them are that rows are not trained, or cannot be with this input; else
        a WorkError.
    """
    reasons = [reason for _, reason in first_reasons(rows)]
    usage = all(reason == UNFINISHED or reason.startswith(_USAGE) for reason in reasons)
    kind = InputError if usage else WorkError
    return kind(f"{what} is finished ({'; '.join(reasons)}); {remedy}")


def check_rows(rows: pd.DataFrame, name: str) -> None:
    """Report rows that failed, after their table is printed.

    Args:
        rows: rows with the column ``error``, of a call that trained what was not finished.
        name: name of the table.

    Raises:
        WorkError: if a row has failed; the message has the first reason.
    """
    failed = [reason for reason in rows["error"] if reason]
    if failed:
        raise WorkError(f"{name}: {len(failed)} of {len(rows)} failed ({failed[0]})")
