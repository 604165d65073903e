"""What a run writes while it trains: metrics.jsonl, angles.jsonl and TensorBoard events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vqlab.training.files import write_atomic


class JsonLines:
    """A file of one JSON row a line, each with its step; rows after the resumed step are dropped first."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        kept = [json.dumps(row) for row in read_rows(path) if row["step"] <= step]
        write_atomic(path, lambda beside: beside.write_text("".join(f"{line}\n" for line in kept)))

    def add(self, row: dict[str, Any]) -> None:
        """Append one row."""
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The whole rows of a file of JSON lines: a killed process may have left half of one at the end."""
    text = path.read_text() if path.is_file() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


class RunLog:
    """The logs of one Run; numbers of a metrics row go to TensorBoard as kind/name too."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.metrics = JsonLines(folder / "metrics.jsonl", step)
        self.angles = JsonLines(folder / "angles.jsonl", step)
        self.writer = SummaryWriter(str(folder / "events"), purge_step=step + 1)

    def add(self, row: dict[str, Any]) -> None:
        """Write one row of metrics."""
        self.metrics.add(row)
        for name, value in row.items():
            if isinstance(value, float):
                self.writer.add_scalar(f"{row['kind']}/{name}", value, row["step"])

    def close(self) -> None:
        """Flush the events."""
        self.writer.close()
