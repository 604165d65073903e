"""A PostgreSQL server for a test: temporary folder, Unix socket, no network, unprivileged user."""

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
    path = shutil.which(name) or next(map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None)
    if path is None:
        pytest.skip(f"PostgreSQL is not installed: {name} is neither on PATH nor under /usr/lib/postgresql")
    return path


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run a server while the body runs and yield the URL of an empty database; skip the test without PostgreSQL."""
    initdb, postgres = _program("initdb"), _program("postgres")
    # PostgreSQL refuses to run as root, and other users cannot read the temporary folder of pytest.
    user = {"user": "nobody"} if os.getuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="vqlab-pg-") as folder:
        if user:
            shutil.chown(folder, "nobody")
        data = f"{folder}/data"
        options = {"stdout": subprocess.DEVNULL, "cwd": folder, **user}
        subprocess.run([initdb, "-D", data, "-U", "vqlab", "-A", "trust", "-N", "-E", "UTF8"], check=True, **options)
        arguments = ["-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"]
        with open(f"{folder}/log", "wb") as log:
            server = subprocess.Popen([postgres, *arguments], stderr=log, **options)
            try:
                _wait_for_server(Path(folder) / ".s.PGSQL.5432", server)
                yield f"postgresql://vqlab@/postgres?host={folder}"
            finally:
                # SIGINT is a fast shutdown: it closes the connections of clients that are still connected.
                server.send_signal(signal.SIGINT)
                server.wait(30)


def _wait_for_server(socket: Path, server: subprocess.Popen[bytes]) -> None:
    import psycopg

    for _ in range(200):
        if socket.exists():
            try:
                psycopg.connect(host=str(socket.parent), user="vqlab", dbname="postgres").close()
                return
            except psycopg.OperationalError:
                pass
        assert server.poll() is None, "the server stopped"
        time.sleep(0.1)
    raise TimeoutError("PostgreSQL did not answer in 20 s")
