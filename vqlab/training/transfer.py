"""A Run as a whole to and from another place, such as an object store, checked by digests."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path, PurePosixPath
from typing import Any

from vqlab.errors import InputError, WorkError
from vqlab.files import synchronize
from vqlab.training.run_folder import RunFolder
from vqlab.training.run_lock import untrained

# Written last: a Run without it is not whole. SHA-256 and bytes of each file, by its path in the Run's folder.
DIGESTS = "digests.json"
_MAX_DIGESTS_BYTES = 1 << 20


def push_run(folder: str | Path, address: str) -> str:
    """Copy a Run to a folder at an address, with the digests of its files.

    Args:
        folder: the folder of the Run, finished or not.
        address: a folder for Runs that fsspec can write, as ``s3://bucket/runs``, ``ssh://host/runs`` or a path. Other
            places than paths may need a package, which the message names.

    Returns:
        The address of the copy.

    Raises:
        InputError: if the folder is not that of a Run, or the address cannot be used.
        WorkError: if the Run is being trained, or a file cannot be copied.
    """
    run = RunFolder.open(folder)
    # Files of two checkpoints would be no Run. In a folder that may not be written, nobody of this user trains.
    with untrained(run.folder) if os.access(run.folder, os.W_OK) else nullcontext():
        return _push(run, address)


def _push(run: RunFolder, address: str) -> str:
    files = {
        path.relative_to(run.folder).as_posix(): path for path in sorted(run.folder.rglob("*")) if _is_content(path)
    }
    digests = {name: {"sha256": _sha256(path), "bytes": path.stat().st_size} for name, path in files.items()}
    with _transfer(address) as (system, root):
        target = f"{root}/{run.folder.name}"
        system.makedirs(target, exist_ok=True)
        if system.exists(f"{target}/{DIGESTS}"):
            system.rm_file(f"{target}/{DIGESTS}")
        for name, path in files.items():
            system.makedirs(str(PurePosixPath(target, name).parent), exist_ok=True)
            system.put_file(str(path), f"{target}/{name}")
        system.pipe_file(f"{target}/{DIGESTS}", json.dumps(digests, indent=1).encode())
    return f"{address.rstrip('/')}/{run.folder.name}"


def pull_run(address: str, root: str | Path) -> Path:
    """Copy a Run that ``push_run`` wrote into a folder of Runs; it appears there whole and verified, or not at all.

    Args:
        address: the address of the Run, as ``push_run`` returned it.
        root: the folder of the Run folders.

    Returns:
        The folder of the Run.

    Raises:
        InputError: if the folder exists already, or the address cannot be used.
        WorkError: if there is no whole Run at the address, or a file differs from its digest.
    """
    name = PurePosixPath(address.rstrip("/")).name
    folder = Path(root) / name
    if folder.exists():
        raise InputError(f"run {folder}: exists already; give another --runs, or remove it with `vqlab remove`")
    part = folder.with_name(f".{name}.{os.getpid()}.pulled")
    try:
        with _transfer(address) as (system, source):
            for path, known in _digests(system, source, address).items():
                target = part / path
                target.parent.mkdir(parents=True, exist_ok=True)
                system.get_file(f"{source}/{path}", str(target))
                if target.stat().st_size != known["bytes"] or _sha256(target) != known["sha256"]:
                    raise WorkError(f"{address}/{path}: differs from its digest; push the Run again")
                synchronize(target)
        RunFolder.open(part)
        os.replace(part, folder)
        synchronize(folder.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _is_content(path: Path) -> bool:
    """Whether a file belongs to the Run: not a lock, and nothing that is being written."""
    return path.is_file() and not path.name.startswith(".") and path.name != DIGESTS


def _digests(system: Any, source: str, address: str) -> dict[str, dict[str, Any]]:
    """The files of a Run at an address; a path that leads out of its folder is refused."""
    name = f"{source}/{DIGESTS}"
    if not system.exists(name):
        raise WorkError(f"{address}: holds no whole Run ({DIGESTS} is missing); push it, or give another address")
    try:
        found = json.loads(system.cat_file(name, end=_MAX_DIGESTS_BYTES))
        for path, known in found.items():
            parts = PurePosixPath(path).parts
            if not parts or path.startswith("/") or "\\" in path or ".." in parts or not known["sha256"]:
                raise ValueError(path)
            int(known["bytes"])
    except (ValueError, TypeError, KeyError, AttributeError):
        raise WorkError(f"{address}/{DIGESTS}: is damaged; push the Run again") from None
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _transfer(address: str) -> Iterator[tuple[Any, str]]:
    """The file system and the path of an address; its errors as one line."""
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise InputError(f"{address}: cannot be used ({' '.join(str(error).split())[:200]})") from None
    try:
        yield system, path.rstrip("/")
    except InputError:
        raise
    except OSError as error:
        raise WorkError(f"{address}: {' '.join(str(error.strerror or error).split())[:200]}") from None
