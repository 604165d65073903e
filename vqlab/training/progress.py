"""Progress on standard error: a bar on a terminal, sparse lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_LINES = 20
# What a line tells of a row, where the row has it.
_TOLD = {
    "discriminator_loss": "discriminator loss {:.3f}",
    "sample_spread": "spread of samples {:.3f}",
    "nats_a_code": "{:.3f} nats a code",
    "denoising_error": "error of the z_q found {:.3f}",
    "psnr": "PSNR {:.2f} dB",
    "perplexity": "perplexity {:.0f}",
}


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
    told = [text.format(row[name]) for name, text in _TOLD.items() if name in row]
    window = f" ({row['perplexity_window']})" if "perplexity" in row else ""
    return f"{row['kind']} {', '.join(told)}{window}"


def _sparse(row: dict[str, Any]) -> None:
    every = max(10, row["last_step"] // _LINES // 10 * 10)
    if row["kind"] == "epoch" or row["step"] % every == 1:
        print(f"step {row['step']}/{row['last_step']}: {_numbers(row)}", file=sys.stderr)
