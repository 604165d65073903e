"""The journal file of the studies: one writer at a time, and no line that a killed process or a full disk left half."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from filelock import FileLock
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from vqlab.files import named_errors


class Journal(JournalFileBackend):
    """Optuna's journal file with a lock that the system releases when its holder is killed.

    Args:
        path: the file; it is created if it does not exist, its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(str(path), _JournalLock(path))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append lines; an error names the file.

        Args:
            logs: JSON values.

        Raises:
            OSError: if they cannot be written, as on a full disk.
        """
        with named_errors(self.path):
            super().append_logs(logs)


class _JournalLock(JournalFileOpenLock):
    """The right to write, in place of Optuna's lock, which outlives a killed process by 30 seconds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path.with_name(f".{path.name}.lock"), thread_local=False)

    def acquire(self) -> bool:
        """Wait for the right, then cut a last line that its writer did not finish."""
        self._lock.acquire()
        try:
            _cut_incomplete_line(self.path)
        except BaseException:
            self._lock.release()
            raise
        return True

    def release(self) -> None:
        """Give the right back."""
        self._lock.release()


def _cut_incomplete_line(path: Path) -> None:
    """Cut what follows the last end of a line; other lines after it would make the journal unreadable."""
    with path.open("rb+") as file:
        end = file.seek(0, 2)
        if end == 0 or file.seek(end - 1) < 0 or file.read(1) == b"\n":
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
