"""A server for each module that runs many times: it imports what the module needs, and forks a process for each run.

Imports take longer than many a notebook. ``process_client.py`` asks for a process that runs the module as
``python -m`` does. Before the fork happen only imports and calls that fill caches, such as those of templates, so a
forked process computes what one of its own would compute.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

_VARIABLE = "VQLAB_PROCESS_SERVERS"
_CLIENT = Path(__file__).with_name("process_client.py")
_ALIVE_SECONDS = 1.0
_MESSAGE_BYTES = 1 << 20


@dataclass
class _Request:
    """Arguments of the module, and the surroundings of the client."""

    arguments: list[str]
    folder: str
    environment: dict[str, str]


def module_command(environment: Mapping[str, str], module: str, *arguments: str) -> list[str]:
    """Build the command that runs a module: in a process of its server, if it has one, else by ``python -m``.

    Args:
        environment: environment variables of the process, from ``process_servers`` or a process of these servers.
        module: name of the module.
        *arguments: its arguments.

    Returns:
        The command; with a server it starts a small process that stands for the one of the server.
    """
    folder = environment.get(_VARIABLE)
    if folder and Path(folder, module).exists():
        return [sys.executable, "-I", "-S", str(_CLIENT), module, *arguments]
    return [sys.executable, "-m", module, *arguments]


@contextmanager
def process_servers(libraries: Mapping[str, Sequence[str]], environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Run servers of processes until the end of the ``with`` block.

    Only Linux has them: elsewhere libraries may not survive a fork, and every module starts in a new Python.

    Args:
        libraries: what each server imports, by the module that it runs; a library that cannot be imported is left out.
            Of an entry ``MODULE:FUNCTION`` it also calls the function, which must start no thread.
        environment: environment variables that libraries read when they are imported, such as numbers of threads.

    Yields:
        The environment with a variable by which ``module_command`` finds the servers. All of their processes are
        killed at the end.
    """
    if not sys.platform.startswith("linux"):
        yield {**environment}
        return
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for module, names in libraries.items():
            stack.enter_context(_running_server(Path(folder, module), module, names, environment))
        yield {**environment, _VARIABLE: folder}


@contextmanager
def _running_server(
    address: Path, module: str, libraries: Sequence[str], environment: Mapping[str, str]
) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen(128)
        command = [sys.executable, "-c", f"from {__name__} import main; main()", module, *libraries]
        server = subprocess.Popen(command, stdin=listener.fileno(), env={**os.environ, **environment})
    # From here on only the server holds the socket: a client of a server that has ended is refused, and does not wait.
    with server:
        try:
            yield
        finally:
            server.terminate()


class _Server:
    """The listening socket, and the connection of the client of each running process."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.connections: dict[int, socket.socket] = {}
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ)
        wake_receiver, self.wake_sender = socket.socketpair()
        for end in (wake_receiver, self.wake_sender):
            end.setblocking(False)
        self.wake_receiver = wake_receiver
        self.selector.register(wake_receiver, selectors.EVENT_READ)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(self.wake_sender.fileno())

    def serve(self) -> _Request:
        """Fork a process for each request; returns only in such a process, with its request."""
        parent = os.getppid()
        try:
            while os.getppid() == parent:
                for key, _ in self.selector.select(_ALIVE_SECONDS):
                    if key.fileobj is self.listener:
                        request = self._accept()
                        if request:
                            return request
                    elif key.fileobj is self.wake_receiver:
                        with contextlib.suppress(BlockingIOError):
                            self.wake_receiver.recv(_MESSAGE_BYTES)
                    else:
                        self._pass_signal(key.data)
                self._report_ended()
        except SystemExit:
            pass
        for pid in self.connections:
            _kill(pid, signal.SIGKILL)
        # Libraries that were only imported have nothing to clean up, and some print warnings when they try.
        os._exit(0)

    def _accept(self) -> _Request | None:
        """Fork the process of a new connection; returns its request in the process, None in the server."""
        connection, _ = self.listener.accept()
        message, outputs, _, _ = socket.recv_fds(connection, _MESSAGE_BYTES, 2)
        request = None
        with contextlib.suppress(ValueError):  # The client has ended before it had sent all.
            request = _Request(**json.loads(_read_line(connection, message)))
        pid = os.fork() if request else None
        if pid == 0:
            self._become_process(connection, outputs)
            return request
        for output in outputs:
            os.close(output)
        if pid:
            self.connections[pid] = connection
            self.selector.register(connection, selectors.EVENT_READ, pid)
        else:
            connection.close()
        return None

    def _become_process(self, connection: socket.socket, outputs: list[int]) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setsid()
        self.selector.close()
        ends = (self.listener, self.wake_receiver, self.wake_sender, connection, *self.connections.values())
        for end in ends:
            end.close()
        self.connections = {}
        for output, descriptor in zip(outputs, (1, 2), strict=True):
            os.dup2(output, descriptor)
            os.close(output)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    def _pass_signal(self, pid: int) -> None:
        """Send a signal that the client has received; end the process if the client has ended."""
        connection = self.connections[pid]
        received = connection.recv(1)
        if received:
            _kill(pid, received[0])
        else:
            self.selector.unregister(connection)
            _kill(pid, signal.SIGKILL)

    def _report_ended(self) -> None:
        while self.connections:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            connection = self.connections.pop(pid)
            with contextlib.suppress(KeyError):
                self.selector.unregister(connection)
            with contextlib.suppress(OSError):
                connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
            connection.close()


def _read_line(connection: socket.socket, start: bytes) -> bytes:
    message = start
    while not message.endswith(b"\n") and (part := connection.recv(_MESSAGE_BYTES)):
        message += part
    return message


def _kill(pid: int, number: int) -> None:
    """Send a signal to the process and those that it has started; just after its fork it has no group of its own."""
    for send in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            return send(pid, number)


def main() -> None:
    """Serve the socket at standard input: arguments are the module and the libraries of ``process_servers``."""
    server = _Server(socket.socket(fileno=os.dup(0)))
    module, *libraries = sys.argv[1:]
    # A kernel reads it when its library is imported, and ends when this process is not its parent any more.
    os.environ["JPY_PARENT_PID"] = str(os.getpid())
    for entry in libraries:
        name, _, function = entry.partition(":")
        # Whatever fails here fails again in the process that needs it, which says so.
        with contextlib.suppress(Exception):
            library = importlib.import_module(name)
            if function:
                getattr(library, function)()
    # Else a garbage collection in a forked process goes through all that was imported, and copies its memory.
    gc.collect()
    gc.freeze()
    request = server.serve()
    os.environ.clear()
    os.environ.update(request.environment)
    os.chdir(request.folder)
    sys.argv = [module, *request.arguments]
    _end(_run_module(module))


def _run_module(module: str) -> int:
    """Run a module as ``python -m`` does, and return its exit status."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        traceback.print_exc()
        return -signal.SIGINT
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _end(status: int) -> None:
    """End the process without freeing what it has imported, which takes seconds."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if status >= 0:
        os._exit(status)
    signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
