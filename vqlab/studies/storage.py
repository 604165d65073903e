"""Storage of Optuna studies: a journal file in the folder of the Runs, or a SQL database."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vqlab.errors import InputError, WorkError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

JOURNAL = "studies.journal"
_CONNECT_TIMEOUT_SECONDS = 10


def open_storage(root: str | Path, url: str | None = None) -> BaseStorage:
    """Open the storage of the studies; several processes may open the same one at once.

    Args:
        root: the folder of the Runs; the journal ``root``/studies.journal is created if it does not exist. It needs
            no server and works on a file system that several machines share.
        url: URL of a database in the form of SQLAlchemy, as ``postgresql://user@host/name``; then no journal is
            used. None uses the journal. Use a database for workers on machines without a common file system.

    Returns:
        The storage.

    Raises:
        InputError: if ``url`` is not a URL, or its driver is not installed.
        WorkError: if the journal is damaged or the database cannot be reached; the message does not contain the
            password of the URL.
    """
    import optuna

    optuna.logging.set_verbosity(logging.WARNING)
    if url is not None:
        return _open_sql(url)
    from optuna.storages import JournalStorage

    from vqlab.studies.journal import Journal

    path = Path(root) / JOURNAL
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return JournalStorage(Journal(path))
    except OSError:
        raise
    except Exception:  # Optuna applies the rows without looking at their types.
        raise WorkError(f"{path}: is a damaged journal; move it away (the Runs are kept) and run again") from None


def _open_sql(url: str) -> BaseStorage:
    import sqlalchemy
    from optuna.storages import RDBStorage

    try:
        parsed = sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):  # ValueError: a port that is no number
        raise InputError("storage: is not a database URL; write it as postgresql://user@host/name") from None
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    timeout = (
        {"connect_args": {"connect_timeout": _CONNECT_TIMEOUT_SECONDS}} if "postgresql" in parsed.drivername else {}
    )
    full_url = parsed.render_as_string(hide_password=False)
    with convert_storage_errors(full_url):
        try:
            return RDBStorage(full_url, engine_kwargs={"pool_pre_ping": True, **timeout})
        except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError):
            # Two workers created the tables of an empty database at once; those of the other worker exist now.
            return RDBStorage(full_url, engine_kwargs={"pool_pre_ping": True, **timeout})
        except ImportError as error:
            raise InputError(f"storage {_display_name(full_url)}: {' '.join(str(error).split())}") from None


@contextmanager
def convert_storage_errors(url: str | None = None) -> Iterator[None]:
    """Convert errors of the storage to WorkError while the body of the ``with`` statement runs.

    Args:
        url: URL of the database; None for the journal.

    Yields:
        Nothing.

    Raises:
        WorkError: if the storage fails; one line, without the password of the URL.
    """
    import sqlalchemy
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError) as error:
        cause = error.__cause__ or error
        reason = " ".join(str(getattr(cause, "orig", None) or cause).split())
        raise WorkError(
            f"storage {_display_name(url)}: cannot be reached ({reason}); finished trials are kept: make it available "
            "and run again"
        ) from None


def storage_name(root: Path, url: str | None) -> str:
    """Name the storage in a message.

    Args:
        root: the folder of the Runs.
        url: URL of a database; None for the journal under ``root``.

    Returns:
        The path of the journal, or the URL without its password.
    """
    return str(root / JOURNAL) if url is None else f"storage {_display_name(url)}"


def _display_name(url: str | None) -> str:
    """The URL without its password, or the name of the journal."""
    import sqlalchemy

    return JOURNAL if url is None else sqlalchemy.make_url(url).render_as_string(hide_password=True)
