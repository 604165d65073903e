"""Progress on standard error: a bar on a terminal, sparse lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_LINES = 20


@contextmanager
def training_progress() -> Iterator[Callable[[dict[str, Any]], None]]:
    """A callback for ``train(progress=…)``: a rich bar on a terminal, else about twenty lines."""
    if not sys.stderr.isatty():
        yield _sparse
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("training")

        def show(row: dict[str, Any]) -> None:
            bar.update(task, completed=row["step"], total=row["last_step"], description=_numbers(row))

        yield show


def _numbers(row: dict[str, Any]) -> str:
    return f"{row['kind']} PSNR {row['psnr']:.2f} dB, perplexity {row['perplexity']:.0f} ({row['perplexity_window']})"


def _sparse(row: dict[str, Any]) -> None:
    every = max(10, row["last_step"] // _LINES // 10 * 10)
    if row["kind"] == "epoch" or row["step"] % every == 1:
        print(f"step {row['step']}/{row['last_step']}: {_numbers(row)}", file=sys.stderr)
