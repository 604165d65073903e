"""Progress of a training on standard error: a progress bar on a terminal, a few lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_LINES = 20
# The values of a row that are printed, if the row has them.
_FORMATS = {
    "discriminator_loss": "discriminator loss {:.3f}",
    "sample_spread": "standard deviation of samples {:.3f}",
    "nats_a_code": "{:.3f} nats per code",
    "denoising_error": "denoising error {:.3f}",
    "psnr": "PSNR {:.2f} dB",
    "perplexity": "perplexity {:.0f}",
}


@contextmanager
def training_progress() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Open a progress display for ``train(progress=…)``.

    Yields:
        A function that displays one logged row: it updates a rich progress bar if standard error is a terminal, else
        it prints about twenty lines in a training.
    """
    if not sys.stderr.isatty():
        yield _print_line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True))
    task = bar.add_task("training")

    def update_bar(row: dict[str, Any]) -> None:
        bar.start()  # Not before the first row: the images, which are read until then, have a bar of their own.
        bar.update(task, completed=row["step"], total=row["total_steps"], description=_describe(row))

    try:
        yield update_bar
    finally:
        bar.stop()


def _describe(row: dict[str, Any]) -> str:
    values = [text.format(row[name]) for name, text in _FORMATS.items() if name in row]
    window = f" ({row['perplexity_window']})" if "perplexity" in row else ""
    return f"{row['kind']} {', '.join(values)}{window}"


def _print_line(row: dict[str, Any]) -> None:
    interval = max(10, row["total_steps"] // _LINES // 10 * 10)
    if row["kind"] == "epoch" or row["step"] % interval == 1:
        print(f"step {row['step']}/{row['total_steps']}: {_describe(row)}", file=sys.stderr)
