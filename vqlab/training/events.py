"""TensorBoard's event files, written by the training itself: a thread could not tell it of a full disk."""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vqlab.files import named_errors

_VERSION = "brain.Event:2"
# Several files of one process in one second.
_NUMBERS = itertools.count()


class EventWriter:
    """Writes scalars to a new event file.

    Args:
        folder: the folder of the event files, created if missing.
        purge_step: TensorBoard ignores what earlier files have from this step on.

    Attributes:
        path: the file.
    """

    def __init__(self, folder: Path, purge_step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_NUMBERS)}"
        self.path = folder / name
        self._file = self.path.open("wb")
        self._records = RecordWriter(self._file)
        self._write(purge_step, file_version=_VERSION)
        self._write(purge_step, session_log=SessionLog(status=SessionLog.START))

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Write one value.

        Args:
            name: name of the curve, as ``train/loss``.
            value: the value.
            step: the training step.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._write(step, summary=Summary(value=[Summary.Value(tag=name, simple_value=value)]))

    def add_settings(self, settings: Mapping[str, Any], step: int) -> None:
        """Write the settings of the training, which TensorBoard shows as hyperparameters.

        Args:
            settings: values by name.
            step: the training step.
        """
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb

        plain = bool | int | float | str
        values = {name: value if isinstance(value, plain) else str(value) for name, value in settings.items()}
        self._write(step, summary=hparams_pb(values, trial_id=self.path.parent.parent.name))

    def synchronize(self) -> None:
        """Hand pending values to the system, so that a viewer sees them."""
        with named_errors(self.path):
            self._file.flush()

    def close(self) -> None:
        """Write pending values and close the file."""
        with named_errors(self.path):
            self._file.close()

    def _write(self, step: int, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        with named_errors(self.path):
            self._records.write(Event(wall_time=time.time(), step=step, **content).SerializeToString())
