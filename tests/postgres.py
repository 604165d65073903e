"""A real PostgreSQL server for a test: its own folder, a Unix socket, no network, an unprivileged user."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _program(name: str) -> str:
    found = shutil.which(name) or next(map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None)
    if found is None:
        pytest.skip(f"no PostgreSQL on this machine: {name} is neither on PATH nor under /usr/lib/postgresql")
    return found


@contextmanager
def postgres_server() -> Iterator[str]:
    """URL of an empty database of a server that lives as long as the body; skips where there are no programs."""
    initdb, postgres = _program("initdb"), _program("postgres")
    # PostgreSQL refuses to run as root, and pytest's own temporary folder is closed to other users.
    user = {"user": "nobody"} if os.getuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="vqlab-pg-") as folder:
        if user:
            shutil.chown(folder, "nobody")
        data = f"{folder}/data"
        quiet = {"stdout": subprocess.DEVNULL, "cwd": folder, **user}
        subprocess.run([initdb, "-D", data, "-U", "vqlab", "-A", "trust", "-N", "-E", "UTF8"], check=True, **quiet)
        options = ["-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"]
        with open(f"{folder}/log", "wb") as log:
            server = subprocess.Popen([postgres, *options], stderr=log, **quiet)
            try:
                _wait(Path(folder) / ".s.PGSQL.5432", server)
                yield f"postgresql://vqlab@/postgres?host={folder}"
            finally:
                # A fast shutdown: it does not wait for clients that keep their connections.
                server.send_signal(signal.SIGINT)
                server.wait(30)


def _wait(socket: Path, server: subprocess.Popen[bytes]) -> None:
    import psycopg

    for _ in range(200):
        if socket.exists():
            try:
                psycopg.connect(host=str(socket.parent), user="vqlab", dbname="postgres").close()
                return
            except psycopg.OperationalError:
                pass
        assert server.poll() is None, "the server ended"
        time.sleep(0.1)
    raise TimeoutError("PostgreSQL did not answer in 20 s")
