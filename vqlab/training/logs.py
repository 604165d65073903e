"""The logs of a training: metrics.jsonl, angles.jsonl and TensorBoard events."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vqlab.files import named_errors, synchronize, write_atomic
from vqlab.training.events import EventWriter


class JsonLines:
    """A log file with one JSON object per line; each has the training step that it belongs to.

    Opening the file removes the rows after ``step``: a resumed training writes them again.

    Args:
        path: the file, existing or not; its folder must exist.
        step: the step from which training resumes; 0 starts an empty file.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        rows = read_rows(path)
        if step and (not rows or _is_damaged(path, len(rows))):
            print(f"{path}: rows up to step {step} are lost; the rest of the Run is kept", file=sys.stderr)
        kept = [json.dumps(row) for row in rows if row["step"] <= step]
        write_atomic(path, lambda temporary: temporary.write_text("".join(f"{line}\n" for line in kept)))

    def append(self, row: dict[str, Any]) -> None:
        """Append one row.

        Args:
            row: JSON values by name, with the ``step``.
        """
        with named_errors(self.path), self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def synchronize(self) -> None:
        """Wait until the rows are on the disk, so that a checkpoint never has steps whose rows are lost."""
        synchronize(self.path)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a JSON-lines file, up to the first that a killed process or a loss of power left incomplete.

    Args:
        path: the file.

    Returns:
        The rows in their order; an empty list if the file does not exist.
    """
    rows: list[dict[str, Any]] = []
    for line in path.read_bytes().splitlines(keepends=True) if path.is_file() else []:
        row = _row(line)
        if row is None:
            break
        rows.append(row)
    return rows


def _is_damaged(path: Path, readable: int) -> bool:
    """Whether a file has more after its readable rows than one incomplete line, as a killed process leaves it."""
    rest = path.read_bytes().splitlines(keepends=True)[readable:]
    return len(rest) > 1 or any(line.endswith(b"\n") or b"\0" in line for line in rest)


def _row(line: bytes) -> dict[str, Any] | None:
    """The row of a line; None if it is incomplete."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and type(row.get("step")) is int and 0 <= row["step"] < 2**63 else None


class NoLog:
    """The log of a process that writes no files, with the methods of ``RunLog``."""

    def add_metrics(self, row: dict[str, Any]) -> None:
        """Do nothing.

        Args:
            row: values by name.
        """

    def add_histograms(self, row: dict[str, Any]) -> None:
        """Do nothing.

        Args:
            row: counts per bin by name.
        """

    def losses(self, count: int) -> list[dict[str, Any]]:
        """Return no row.

        Args:
            count: number of rows.

        Returns:
            An empty list.
        """
        return []

    def synchronize(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class RunLog(NoLog):
    """All logs of one Run: rows of metrics, which TensorBoard receives too, and rows of histograms.

    Args:
        folder: the folder of the Run.
        step: the step from which training resumes; later rows and events are removed.
        settings: what TensorBoard shows as hyperparameters, by name. Default None: nothing.

    Attributes:
        metrics: ``metrics.jsonl``.
        angles: ``angles.jsonl``; see ``vqlab.training.gradients.gradient_histograms``.
        writer: the writer of ``events/``.
    """

    def __init__(self, folder: Path, step: int, settings: Mapping[str, Any] | None = None) -> None:
        self.metrics = JsonLines(folder / "metrics.jsonl", step)
        self.angles = JsonLines(folder / "angles.jsonl", step)
        self.writer = EventWriter(folder / "events", step + 1)
        if settings:
            self.writer.add_settings(settings, step)

    def add_metrics(self, row: dict[str, Any]) -> None:
        """Append a row to ``metrics.jsonl`` and its floats to TensorBoard, as ``kind/name``.

        Args:
            row: values by name, with ``kind`` and ``step``.
        """
        self.metrics.append(row)
        for name, value in row.items():
            if isinstance(value, float):
                self.writer.add_scalar(f"{row['kind']}/{name}", value, row["step"])

    def add_histograms(self, row: dict[str, Any]) -> None:
        """Append a row to ``angles.jsonl``.

        Args:
            row: counts per bin by name, with ``step`` and ``epoch``.
        """
        self.angles.append(row)

    def losses(self, count: int) -> list[dict[str, Any]]:
        """Read the last rows that have a loss.

        Args:
            count: number of rows.

        Returns:
            Rows of ``metrics.jsonl``.
        """
        return [row for row in read_rows(self.metrics.path) if "loss" in row][-count:]

    def synchronize(self) -> None:
        """Wait until the rows of both files are on the disk."""
        self.metrics.synchronize()
        self.angles.synchronize()
        self.writer.synchronize()

    def close(self) -> None:
        """Write pending events and close their file."""
        self.writer.close()
