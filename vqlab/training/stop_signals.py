"""SIGINT (Ctrl-C) and SIGTERM during a training: it stops after the step, with a checkpoint."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_NUMBERS = (signal.SIGINT, signal.SIGTERM)
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
    """Take note of SIGINT and SIGTERM, in place of ending the ``with`` block, until it has ended.

    The first signal prints a line and restores the earlier handlers, so that a second one acts at once. Only the main
    thread receives signals; in another one nothing changes. A signal that is ignored (as by ``nohup``) stays ignored.

    Yields:
        What was received; the block looks at it and ends in order.

    Raises:
        KeyboardInterrupt: after the block, if SIGINT was received.
        SystemExit: after the block, with status 143, if SIGTERM was received.
    """
    received = StopSignal()
    earlier: dict[int, Handler] = {}
    if threading.current_thread() is threading.main_thread():
        earlier = {number: signal.getsignal(number) for number in _NUMBERS}
        # None: not set by Python, so that Python cannot restore it.
        earlier = {number: handler for number, handler in earlier.items() if handler not in (None, signal.SIG_IGN)}

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
        raise SystemExit(128 + received.number)


def end_in_order() -> None:
    """Let SIGTERM end this process by SystemExit with status 143, where it would end it without a last word.

    Then functions of ``atexit`` are called. A handler that is not the default one is kept, and so is that of another
    thread than the main one.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
