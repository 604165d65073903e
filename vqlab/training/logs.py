"""What a run writes while it trains: metrics.jsonl and TensorBoard events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vqlab.training.files import write_whole


class RunLog:
    """Appends rows to metrics.jsonl and scalars to events/; rows after the resumed step are dropped first."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = folder / "metrics.jsonl"
        kept = [line for line in self._lines() if json.loads(line)["step"] <= step]
        write_whole(self.path, lambda beside: beside.write_text("".join(f"{line}\n" for line in kept)))
        self.writer = SummaryWriter(str(folder / "events"), purge_step=step + 1)

    def _lines(self) -> list[str]:
        """Whole rows only: a killed process may have left half of one at the end."""
        text = self.path.read_text() if self.path.is_file() else ""
        return text[: text.rfind("\n") + 1].splitlines()

    def add(self, row: dict[str, Any]) -> None:
        """Write one row; numbers go to TensorBoard as kind/name too."""
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        for name, value in row.items():
            if isinstance(value, float):
                self.writer.add_scalar(f"{row['kind']}/{name}", value, row["step"])

    def close(self) -> None:
        """Flush the events."""
        self.writer.close()
