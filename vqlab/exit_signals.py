"""Signals that end a command in order, and the exit status of each."""

from __future__ import annotations

import signal
from types import FrameType

# Schedulers send SIGUSR1 before the end of a job; a time limit raises SIGALRM. Systems without signals have none.
SCHEDULED: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGUSR1", "SIGALRM") if hasattr(signal, name)
)
# Exit status of a training that was stopped in order: the same command goes on (EX_TEMPFAIL of sysexits.h).
RUN_AGAIN = 75


def stop_status(number: int) -> int:
    """Exit status of a process that a signal stops.

    Args:
        number: the signal.

    Returns:
        75 for a signal of a scheduler or time limit, else 128 plus the number.

    Example:
        >>> stop_status(signal.SIGTERM)
        143
    """
    return RUN_AGAIN if number in SCHEDULED else 128 + number


def stop_process(number: int, frame: FrameType | None) -> None:
    """End the process as Ctrl-C does, with ``stop_status``, so that unfinished files are removed; a handler of signals.

    Args:
        number: the signal.
        frame: unused.

    Raises:
        SystemExit: always.
    """
    raise SystemExit(stop_status(number))
