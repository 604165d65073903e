"""Where Optuna keeps its studies: a journal file beside the Runs, or any SQL database by URL."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vqlab.errors import InputError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

JOURNAL = "studies.journal"
_CONNECT_SECONDS = 10


def open_storage(root: str | Path, url: str | None = None) -> BaseStorage:
    """The storage of studies: ``root``/studies.journal, or the database at ``url`` (SQLAlchemy's form).

    Several processes, or machines with one database, may open the same one at once. A journal needs no server
    and works on a file system that machines share. Raises InputError, without the URL's password, for a
    database that is out of reach, a driver that is not installed or text that is no URL.
    """
    import optuna

    optuna.logging.set_verbosity(logging.WARNING)
    if url is not None:
        return _open_sql(url)
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path = Path(root) / JOURNAL
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return JournalStorage(JournalFileBackend(str(path)))
    except ValueError:
        raise InputError(f"{path}: not a whole journal; move it away (the Runs are kept) and run again") from None


def _open_sql(url: str) -> BaseStorage:
    import sqlalchemy
    from optuna.storages import RDBStorage

    try:
        where = sqlalchemy.make_url(url)
    except sqlalchemy.exc.ArgumentError:
        raise InputError("storage: not a database URL; write it as postgresql://user@host/name") from None
    if where.drivername == "postgresql":
        where = where.set(drivername="postgresql+psycopg")
    wait = {"connect_args": {"connect_timeout": _CONNECT_SECONDS}} if "postgresql" in where.drivername else {}
    full = where.render_as_string(hide_password=False)
    with storage_errors(full):
        try:
            return RDBStorage(full, engine_kwargs={"pool_pre_ping": True, **wait})
        except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError):
            # Two workers made the tables of an empty database at once: the other one's are there now.
            return RDBStorage(full, engine_kwargs={"pool_pre_ping": True, **wait})
        except ImportError as error:
            raise InputError(f"storage {_shown(full)}: {' '.join(str(error).split())}") from None


@contextmanager
def storage_errors(url: str | None = None) -> Iterator[None]:
    """Turn a storage that fails into InputError with one line, no password in it; what is finished is kept."""
    import sqlalchemy
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError) as error:
        cause = error.__cause__ or error
        reason = " ".join(str(getattr(cause, "orig", None) or cause).split())
        raise InputError(f"storage {_shown(url)}: out of reach ({reason}); run again when it is back") from None


def _shown(url: str | None) -> str:
    import sqlalchemy

    return JOURNAL if url is None else sqlalchemy.make_url(url).render_as_string(hide_password=True)
