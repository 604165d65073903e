"""Processes of the process server against Python's own processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vqlab.report.process_server import module_command, process_servers

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the server forks, on Linux only")
_MODULE = """
import os, sys, time
print(os.getpid(), sys.argv[1:], os.getcwd(), os.environ["COLOUR"], "torch" in sys.modules, __name__, flush=True)
print("to the error output", file=sys.stderr)
if sys.argv[1] == "sleep":
    time.sleep(60)
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with process_servers({"said": ["json", "torch", "no_such_library"]}, {"COLOUR": "red"}) as environment:
        yield environment


def _start(environment: dict[str, str], folder: Path, *arguments: str) -> subprocess.Popen[str]:
    (folder / "said.py").write_text(_MODULE)
    variables = {**os.environ, **environment, "COLOUR": "blue"}
    command = module_command(environment, "said", *arguments)
    return subprocess.Popen(
        command, cwd=folder, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def _start_sleeping(environment: dict[str, str], folder: Path) -> tuple[subprocess.Popen[str], int]:
    """A client, and the number of the process that it stands for."""
    client = _start(environment, folder, "sleep")
    assert client.stdout
    return client, int(client.stdout.readline().split()[0])


def _ends(pid: int) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("status", ["0", "3"])
def test_a_module_runs_with_its_arguments_folder_environment_and_status(
    server: dict[str, str], tmp_path: Path, status: str
) -> None:
    process = _start(server, tmp_path, status, "an argument with spaces")
    output, errors = process.communicate(timeout=120)
    assert output.split()[1:] == f"['{status}', 'an argument with spaces'] {tmp_path} blue True __main__".split()
    assert errors == "to the error output\n"
    assert process.returncode == int(status)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_client_reaches_the_process(server: dict[str, str], tmp_path: Path, number: int) -> None:
    client, _ = _start_sleeping(server, tmp_path)
    client.send_signal(number)
    _, errors = client.communicate(timeout=120)
    assert client.returncode == -number
    assert ("KeyboardInterrupt" in errors) == (number == signal.SIGINT)


def test_the_process_ends_with_a_killed_client(server: dict[str, str], tmp_path: Path) -> None:
    client, pid = _start_sleeping(server, tmp_path)
    client.kill()
    client.communicate(timeout=120)
    assert _ends(pid)


def test_a_killed_process_ends_its_client_in_the_same_way(server: dict[str, str], tmp_path: Path) -> None:
    client, pid = _start_sleeping(server, tmp_path)
    os.kill(pid, signal.SIGKILL)
    client.communicate(timeout=120)
    assert client.returncode == -signal.SIGKILL


def test_a_library_that_cannot_be_imported_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "broken_library.py").write_text("raise NameError('as of two versions that do not fit')")
    with process_servers(
        {"said": ["broken_library", "json"]}, {"COLOUR": "red", "PYTHONPATH": str(tmp_path)}
    ) as server:
        output, errors = _start(server, tmp_path, "3").communicate(timeout=120)
    assert "blue" in output
    assert errors == "to the error output\n"


def test_a_module_runs_in_a_process_of_its_own_after_the_end_of_its_server(tmp_path: Path) -> None:
    with process_servers({"said": []}, {}) as server:
        client, pid = _start_sleeping(server, tmp_path)
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(parent, signal.SIGKILL)
        assert client.wait(120) == 1
        os.kill(pid, signal.SIGKILL)
        client.communicate(timeout=120)
        later = _start(server, tmp_path, "3")
        output, errors = later.communicate(timeout=120)
    assert int(output.split()[0]) == later.pid
    assert "blue" in output
    assert errors == "to the error output\n"
    assert later.returncode == 3


def test_the_end_of_the_server_ends_its_processes(tmp_path: Path) -> None:
    with process_servers({"said": []}, {}) as server:
        client, pid = _start_sleeping(server, tmp_path)
    assert _ends(pid)
    client.communicate(timeout=120)
    assert client.returncode != 0
    assert module_command(server, "said") == [sys.executable, "-m", "said"]
