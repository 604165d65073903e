"""Ctrl-C, SIGTERM, and the signals of a scheduler or a time limit during a training: it stops with a checkpoint."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from vqlab.exit_signals import SCHEDULED, stop_process

_NUMBERS = (signal.SIGINT, signal.SIGTERM, *SCHEDULED)
_LINE = (
    b"\nstopping with a checkpoint after this step; the same command goes on from there (a second signal ends it now)\n"
)
_STDERR = 2

Handler = Callable[[int, FrameType | None], object] | int | None


class StopSignal:
    """Whether a signal has asked for the end of a training.

    Attributes:
        number: the signal; None before one is received.
    """

    def __init__(self) -> None:
        self.number: int | None = None


@contextmanager
def stop_signals() -> Iterator[StopSignal]:
    """Take note of SIGINT, SIGTERM, SIGUSR1 and SIGALRM, in place of ending the ``with`` block, until it has ended.

    The first signal prints a line and restores the earlier handlers, so that a second one acts at once. Only the main
    thread receives signals; in another one nothing changes. A signal that is ignored (as by ``nohup``) stays ignored,
    and a handler of SIGUSR1 or SIGALRM that another library has set is kept.

    Yields:
        What was received; the block looks at it and ends in order.

    Raises:
        KeyboardInterrupt: after the block, if SIGINT was received.
        SystemExit: after the block, with ``stop_status``, if another signal was received.
    """
    received = StopSignal()
    earlier: dict[int, Handler] = {}
    if threading.current_thread() is threading.main_thread():
        earlier = {number: signal.getsignal(number) for number in _NUMBERS}
        # None: not set by Python, so that Python cannot restore it.
        earlier = {number: handler for number, handler in earlier.items() if _is_replaced(number, handler)}

    def restore() -> None:
        for number, handler in earlier.items():
            signal.signal(number, handler)

    def receive(number: int, frame: FrameType | None) -> None:
        restore()
        received.number = number
        # Python's streams cannot be written from a handler that may interrupt their own writing.
        os.write(_STDERR, _LINE)

    try:
        for number in earlier:
            signal.signal(number, receive)
        yield received
    finally:
        restore()
    if received.number == signal.SIGINT:
        raise KeyboardInterrupt
    if received.number is not None:
        stop_process(received.number, None)


def _is_replaced(number: int, handler: Handler) -> bool:
    if number in SCHEDULED:
        return handler in (signal.SIG_DFL, stop_process)
    return handler not in (None, signal.SIG_IGN)


def end_in_order() -> None:
    """Let SIGTERM end this process by SystemExit with status 143, where it would end it without a last word.

    Then functions of ``atexit`` are called. A handler that is not the default one is kept, and so is that of another
    thread than the main one.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, stop_process)
