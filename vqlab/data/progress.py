"""Progress of reading images and of downloads, on standard error: a bar on a terminal, a few lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

_FIRST_SECONDS, _LINE_SECONDS = 1.0, 10.0


class Report(Protocol):
    """Shows how far the reading is."""

    def __call__(self, done: int, share: float) -> None:
        """Show the state.

        Args:
            done: number of images read, or of what is counted.
            share: share of the source that is read, 0…1.
        """


@contextmanager
def reading_progress(name: str, counted: str = "images read") -> Iterator[Report]:
    """Open a progress display with the time left; reading that takes less than a second shows nothing.

    Args:
        name: name of the source.
        counted: what the number counts.

    Yields:
        A function to call with the number of images and the share that is read.
    """
    display = _Display(name, counted)
    try:
        yield display
    finally:
        display.close()


class _Display:
    def __init__(self, name: str, counted: str) -> None:
        self.name, self.counted, self.start = name, counted, time.monotonic()
        self.next_line = self.start + _LINE_SECONDS
        self.terminal = sys.stderr.isatty()
        self._bar: Any = None

    def __call__(self, done: int, share: float) -> None:
        now = time.monotonic()
        if self.terminal and now - self.start > _FIRST_SECONDS:
            self._update_bar(done, share)
        elif not self.terminal and now > self.next_line:
            self.next_line = now + _LINE_SECONDS
            left = (now - self.start) * (1 - share) / share if share > 0 else 0
            print(
                f"{self.name}: {done:,} {self.counted}, {share:.0%}, {_duration(left)} left",
                file=sys.stderr,
                flush=True,
            )

    def _update_bar(self, done: int, share: float) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        if self._bar is None:
            columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._bar.add_task("", total=1.0)
        self._bar.update(self._bar.task_ids[0], completed=share, description=f"{self.name}: {done:,} {self.counted}")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
