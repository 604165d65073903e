"""Run a module in a process of its process server: ``python process_client.py MODULE ARGUMENTS``.

The client stands for that process: it passes signals on, ends with its status, and takes it along if it is killed.
Where the server has ended, it becomes the process itself. It imports nothing of vqlab, because it must start in a
moment.
"""

import json
import os
import signal
import socket
import sys


def main() -> None:
    """Ask the server for the process, and wait for its end."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(os.path.join(os.environ["VQLAB_PROCESS_SERVERS"], sys.argv[1]))
        except (ConnectionRefusedError, FileNotFoundError):
            os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda received, _: connection.sendall(bytes([received])))
        request = {"arguments": sys.argv[2:], "folder": os.getcwd(), "environment": dict(os.environ)}
        socket.send_fds(connection, [b"{"], [1, 2])
        connection.sendall(json.dumps(request).encode()[1:] + b"\n")
        status = connection.recv(16)
    _end(int(status) if status else 1)


def _end(status: int) -> None:
    """End as the process did: with its status, or by its signal."""
    if status >= 0:
        sys.exit(status)
    signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
    os.kill(os.getpid(), -status)


if __name__ == "__main__":
    main()
