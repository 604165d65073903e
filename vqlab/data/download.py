"""Downloads of published files: once for all processes, resumed where they were cut off, verified before use."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from filelock import FileLock

from vqlab.data.cache import cache_folder
from vqlab.data.progress import Report, reading_progress
from vqlab.errors import WorkError
from vqlab.files import TEMPORARY_ENDING, acquire_lock, named_errors, synchronize

_TIMEOUT_SECONDS = 20
# A server may close a connection now and then; each further one must bring something new.
_CONNECTIONS = 10
# Less than this in a minute is a lost connection: a byte now and then would keep the timeout from ending it.
_SLOWEST_BYTES, _SLOW_SECONDS = 60 << 10, 60
_CHUNK_BYTES = 1 << 20
_MIB = 1 << 20
_ALGORITHMS = {"sha256": "SHA-256", "md5": "MD5"}


@dataclass(frozen=True)
class PublishedFile:
    """A file that others publish with its checksum.

    Attributes:
        name: file name in the cache folder.
        folder: folder in the cache folder.
        url: address of the file.
        checksum: checksum of its content, ``sha256:`` or ``md5:`` and hexadecimal digits.
        max_bytes: a larger answer is refused.
    """

    name: str
    folder: str
    url: str
    checksum: str
    max_bytes: int

    @property
    def path(self) -> Path:
        """Path of the file in the cache folder, whether or not it is downloaded."""
        return cache_folder() / self.folder / self.name

    def matches(self, path: Path) -> bool:
        """Compare the content of a file with the checksum.

        Args:
            path: an existing file.

        Returns:
            Whether it is the published one.
        """
        algorithm, _, digest = self.checksum.partition(":")
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, algorithm).hexdigest() == digest


def fetch(file: PublishedFile) -> Path:
    """Download a file if the cache folder does not have it, and verify its checksum.

    What a connection that was lost has brought stays in a file with the ending ``.part``, and the next call goes on
    from there. One process downloads, others wait for it.

    Args:
        file: the file.

    Returns:
        Its path in the cache folder.

    Raises:
        WorkError: if the download fails, the server sends more than ``max_bytes`` or other content, or the file in
            the cache folder is incomplete or altered.
    """
    try:
        path = file.path
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            with one_process(path, f"{file.name}: is being downloaded by another process; waiting for it"):
                if not path.is_file():
                    _download(file)
                    return path
        if file.matches(path):
            return path
    except OSError as error:
        raise WorkError(f"{file.name}: cannot be stored ({error}); {_remedy(file)}") from None
    raise WorkError(
        f"{path}: incomplete or altered (its {_checksum_text(file)}); remove it and try again, or {_remedy(file)}"
    )


@contextmanager
def one_process(path: Path, line: str) -> Iterator[None]:
    """Let one process, or thread, at a time make a file or folder.

    Args:
        path: what is made; the lock is beside it, and is removed at the end of a block without an error.
        line: shown on standard error by those that wait.

    Yields:
        Nothing.
    """
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    acquire_lock(lock, line)
    try:
        yield
    finally:
        lock.release()
    # It is made: those that wait, or come later, need no lock.
    with suppress(OSError):
        os.unlink(lock.lock_file)


class _ConnectionLostError(Exception):
    """The server cannot be reached, or has stopped sending."""


def _download(file: PublishedFile) -> None:
    """Download to the ``.part`` file, and once more from its beginning if pieces give other content."""
    part = file.path.with_name(f".{file.name}{TEMPORARY_ENDING}")
    is_joined = _receive_all(file, part)
    if is_joined and not file.matches(part):
        part.unlink()
        _receive_all(file, part)
    if not file.matches(part):
        part.unlink()
        raise WorkError(
            f"{file.name}: {file.url} has other content than the published one (its {_checksum_text(file)}); "
            f"{_remedy(file)}"
        )
    synchronize(part)
    os.replace(part, file.path)
    synchronize(file.path.parent)


def _receive_all(file: PublishedFile, part: Path) -> bool:
    """Receive what is missing, over several connections if some are lost; True if it has several pieces."""
    with reading_progress(file.name, "MiB downloaded") as report:
        for _ in range(_CONNECTIONS):
            before = _size(part)
            try:
                _receive(file, part, report)
                return before > 0
            except _ConnectionLostError as error:
                reason = str(error)
            if _size(part) <= before:
                break
    kept = f"; {_size(part) / _MIB:.1f} MiB are kept, and the same command goes on from there" if _size(part) else ""
    raise WorkError(f"{file.name}: could not be downloaded ({reason}){kept}; {_remedy(file)}")


def _receive(file: PublishedFile, part: Path, report: Report) -> None:
    """Append what one connection sends; begin anew if the server cannot send a rest."""
    start = _size(part)
    response = _open(file, start)
    if response is None:
        return
    with response:
        start = start if _begins_at(response, start) else 0
        total = _total(response, start)
        with named_errors(part), part.open("ab" if start else "wb") as stream:
            done = start
            for chunk in _chunks(response):
                done += len(chunk)
                if max(done, total or 0) > file.max_bytes:
                    break
                stream.write(chunk)
                report(done // _MIB, done / (total or file.max_bytes))
    if max(done, total or 0) > file.max_bytes:
        part.unlink()
        raise WorkError(
            f"{file.name}: {file.url} has more than {file.max_bytes / _MIB:.0f} MiB, so it is not the published file; "
            f"{_remedy(file)}"
        )
    if total is not None and done < total:
        raise _ConnectionLostError(f"the connection was lost after {done / _MIB:.1f} of {total / _MIB:.1f} MiB")


def _open(file: PublishedFile, start: int) -> Any:
    """Ask for the bytes from ``start`` on; None if the server has no more."""
    request = urllib.request.Request(file.url, headers={"User-Agent": "vqlab"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    with _lost_connections():
        try:
            return urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
        except urllib.error.HTTPError as error:
            error.close()
            if start and error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                # All is there, or it is of another file: the checksum tells.
                return None
            raise


def _chunks(response: Any) -> Iterator[bytes]:
    """What a server sends, as it comes, for as long as it is more than next to nothing."""
    beginning, received = time.monotonic(), 0
    while True:
        with _lost_connections():
            chunk = response.read1(_CHUNK_BYTES)
        if not chunk:
            return
        yield chunk
        received += len(chunk)
        if time.monotonic() - beginning > _SLOW_SECONDS:
            if received < _SLOWEST_BYTES:
                raise _ConnectionLostError(f"only {received} bytes came in {_SLOW_SECONDS} s")
            beginning, received = time.monotonic(), 0


@contextmanager
def _lost_connections() -> Iterator[None]:
    """Tell errors of the network from those of the disk."""
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        is_answer = isinstance(error, urllib.error.HTTPError)
        reason = str(error if is_answer else getattr(error, "reason", error)) or type(error).__name__
        raise _ConnectionLostError(" ".join(reason.split())[:200]) from None


def _begins_at(response: Any, start: int) -> bool:
    """Whether an answer has only what was asked for; others begin with the first byte."""
    content_range = response.headers.get("Content-Range", "")
    return start > 0 and response.status == HTTPStatus.PARTIAL_CONTENT and content_range.startswith(f"bytes {start}-")


def _total(response: Any, start: int) -> int | None:
    """Bytes of the whole file; None if the server does not say."""
    length = re.fullmatch("[0-9]{1,18}", response.headers.get("Content-Length", ""))
    return start + int(length[0]) if length else None


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _checksum_text(file: PublishedFile) -> str:
    algorithm, _, digest = file.checksum.partition(":")
    return f"{_ALGORITHMS[algorithm]} must be {digest[:12]}…"


def _remedy(file: PublishedFile) -> str:
    return f"save {file.url} as {file.name} in the folder {file.folder} of $VQLAB_CACHE (default ~/.cache/vqlab)"
