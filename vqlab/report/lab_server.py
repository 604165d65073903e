"""Options of JupyterLab's server that leave it on loopback with a token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vqlab.errors import InputError

# Others can open the server: addresses, tokens and passwords, origins, configuration files, extensions, proxies.
_FLAGS = ("--no-browser", "--debug", "--allow-root", "--version", "--help", "-h", "-y")
_VALUES = (
    "--port", "--port-retries", "--browser", "--log-level", "--certfile", "--keyfile", "--ServerApp.port",
    "--ServerApp.port_retries", "--ServerApp.open_browser", "--ServerApp.browser", "--ServerApp.log_level",
    "--ServerApp.certfile", "--ServerApp.keyfile", "--ServerApp.iopub_data_rate_limit",
    "--ServerApp.shutdown_no_activity_timeout", "--MappingKernelManager.cull_idle_timeout",
)  # fmt: skip


def server_options(options: Sequence[str], folder: Path) -> list[str]:
    """Put together the options of ``jupyter lab``: those of the caller first, so that they cannot change the address.

    Args:
        options: options that the caller gives, ``--NAME``, ``--NAME=VALUE`` or ``--NAME VALUE``.
        folder: the folder that the server shows.

    Returns:
        The options; the address is 127.0.0.1, and the server makes a token of its own.

    Raises:
        InputError: for an option that is not known to leave the address and the token as they are.

    Example:
        >>> server_options(["--port", "8890"], Path("/notebooks"))[:2]
        ['--port', '8890']
    """
    waiting = False
    for option in options:
        name, equals, _ = option.partition("=")
        if waiting and not option.startswith("-"):
            waiting = False
            continue
        waiting = name in _VALUES and not equals
        if name not in _VALUES and not (name in _FLAGS and not equals):
            raise InputError(
                f"lab {name[:80]}: is not passed on, since the page must stay on this machine and behind its token; "
                f"allowed: {', '.join((*_FLAGS[:3], *_VALUES[:6]))}, and more in vqlab/report/lab_server.py; use "
                "`jupyter lab` for a server of your own"
            )
    return [*options, "--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={folder}"]
