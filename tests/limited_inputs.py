"""Many inputs, each within 30 seconds, 2 GiB of memory and the asked folders."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

SECONDS = 30.0
MEMORY = 2 << 30
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
# Paths of events that make, change or move a file.
_EVENTS = {
    "open": (0,),
    "os.mkdir": (0,),
    "os.rename": (0, 1),
    "os.link": (1,),
    "os.symlink": (1,),
    "os.truncate": (0,),
}
_written: list[str] | None = None


class HangError(BaseException):
    """Not an Exception, so that no handler of the program takes it."""


class TryInputs:
    """Calls a check with inputs; the check returns what is wrong, and all that is wrong is shown.

    ``share`` of the inputs are tried. ``errors`` is a descriptor for the last words of this process, if code that
    Python cannot interrupt takes twice the time. The memory is that of the whole process, libraries included.
    """

    def __init__(self, share: int, errors: int, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        self.share, self.errors, self.seconds, self.memory = share, errors, seconds, memory

    def __call__(self, strategy: st.SearchStrategy[Any], count: int, check: Callable[[Any], str]) -> None:
        count //= self.share
        problems, seen = dict[str, str](), set[str]()
        slowest, largest = 0.0, 0

        @settings(
            max_examples=3 * count, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(strategy)
        def try_one(value: Any) -> None:
            nonlocal slowest, largest
            key = repr(value)
            if key in seen or len(seen) == count:
                return
            seen.add(key)
            start = time.monotonic()
            problem, peak = self.check(value, check)
            slowest, largest = max(slowest, time.monotonic() - start), max(largest, peak)
            if problem:
                problems.setdefault(problem, key[:300])

        try_one()
        print(f"{len(seen)} distinct inputs, {slowest:.1f} s and {largest / 2**20:.0f} MiB at most")
        assert not problems, "\n".join(f"{problem}\n    {value}" for problem, value in problems.items())
        assert len(seen) == count

    def check(self, value: Any, check: Callable[[Any], str]) -> tuple[str, int]:
        """What is wrong with one input, and the peak of the memory."""
        Path("/proc/self/clear_refs").write_text("5")  # begins a new peak
        try:
            with _limited_time(self.seconds, self.errors), _limited_memory(self.memory):
                problem = check(value)
        except HangError:
            problem = f"no end within {self.seconds:g} seconds: {last_frames()}"
        except Exception:
            problem = last_frames()
        peak = _status("VmHWM")
        return problem or (f"takes {peak / 2**20:.0f} MiB" if peak > self.memory else ""), peak


@contextlib.contextmanager
def _limited_time(seconds: float, errors: int) -> Iterator[None]:
    def end(number: int, frame: object) -> None:
        raise HangError

    earlier = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(2 * seconds, exit=True, file=errors)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)


@contextlib.contextmanager
def _limited_memory(memory: int) -> Iterator[None]:
    """Let allocations fail that would bring the resident memory above the limit, in processes that are started too."""
    earlier = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_status("VmData") + memory - _status("VmRSS"), earlier[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, earlier)


def _status(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) << 10


def last_frames() -> str:
    """The exception that is handled, and the lines of vqlab that led to it, without long values."""
    kind, value, trace = sys.exc_info()
    frames = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(trace) if "vqlab/" in f.filename]
    return f"{kind.__name__ if kind else ''}: {str(value)[:150]} ({' '.join(frames[-4:])})"


@contextlib.contextmanager
def only_inside(*allowed: Path) -> Iterator[None]:
    """Refuse files and folders that are made, changed or moved outside of the allowed folders."""
    global _written
    if _written is None:
        sys.addaudithook(_note)
    _written = []
    yield
    # Python keeps what it compiles at a first import.
    compiled = [Path(sys.pycache_prefix).resolve()] if sys.pycache_prefix else []
    inside = (*(path.resolve() for path in allowed), Path("/dev"), Path("/proc"), *compiled)
    outside = {
        path for path in map(os.path.realpath, _written)
        if not any(Path(path).is_relative_to(folder) for folder in inside) and "__pycache__" not in path
    }  # fmt: skip
    assert not outside, f"outside of the asked folders: {sorted(outside)}"


def _note(event: str, arguments: Sequence[Any]) -> None:
    if _written is None or event not in _EVENTS or (event == "open" and not (arguments[2] or 0) & _WRITING):
        return
    _written.extend(os.fsdecode(arguments[place]) for place in _EVENTS[event] if not isinstance(arguments[place], int))
