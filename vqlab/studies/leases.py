"""Which worker has which trial: no trial is lost with a killed worker, none is done twice.

Optuna's heartbeat lives in SQL storages alone; this one works on a journal file too. A worker that takes a trial
writes its place (machine, process) and then a counter that grows. A trial is lost when its process is gone from
this machine, or when its counter stands still for GRACE seconds of the *observer's* clock, so machines need not
agree on the time. A lost trial is marked failed and its point is queued again. Two workers may queue a point at the
same moment; trials have one order in the storage, so all agree that the first counts, and the other is dropped
by whoever takes it.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

HEARTBEAT_SECONDS = 10.0
EXPIRY_SECONDS = 120.0


def point_of(trial: FrozenTrial) -> str:
    """The name of the point that a trial is for; a sampler's own trial is a point of its own."""
    return str(trial.user_attrs.get("point", trial.number))


def is_active(trial: FrozenTrial) -> bool:
    """Whether a trial is waiting, running or done; lost, dropped and broken ones do not stand."""
    return trial.state.name != "FAIL"


def has_error(trial: FrozenTrial) -> bool:
    """Whether a trial failed for a reason of its own, such as a loss that diverged."""
    return trial.state.name == "FAIL" and "error" in trial.user_attrs


@dataclass
class Lease:
    """A trial in this worker's hands; ``lost``: another worker has declared it lost, so leave it."""

    trial: Trial
    expired: bool = False


class TrialLeases:
    """The trials of one study, as this worker takes, holds and releases them.

    beat: seconds between signs of life; grace: seconds without one after which a trial is lost, many beats.
    """

    def __init__(
        self, study: Study, storage: BaseStorage, heartbeat: float = HEARTBEAT_SECONDS, expiry: float = EXPIRY_SECONDS
    ) -> None:
        self.study, self.storage, self.heartbeat, self.expiry = study, storage, heartbeat, expiry
        self._seen: dict[int, tuple[Any, float]] = {}

    def trials(self) -> list[FrozenTrial]:
        """All trials in their order, as they are in the storage now."""
        return self.study.get_trials(deepcopy=False)

    def unfinished(self) -> bool:
        """Whether any trial waits or runs."""
        return any(trial.state.name in ("WAITING", "RUNNING") for trial in self.trials())

    def enqueue(self, points: Mapping[str, Mapping[str, Any]], retry: bool = False) -> None:
        """Queue every point that has no trial that stands or is broken; retry: broken ones again, too."""
        settled = {point_of(trial) for trial in self.trials() if is_active(trial) or (has_error(trial) and not retry)}
        for name, params in points.items():
            if name not in settled:
                self.study.enqueue_trial(dict(params), user_attrs={"point": name})

    def release_expired(self) -> list[FrozenTrial]:
        """Mark the running trials of workers that are gone as failed; returns them."""
        expired = [trial for trial in self.trials() if trial.state.name == "RUNNING" and self._is_gone(trial)]
        for trial in expired:
            self._fail(trial.number)
        return expired

    def acquire(self) -> Trial | None:
        """The first waiting trial that nobody else takes; None where no trial waits."""
        from optuna import Trial

        for trial in self.trials():
            if trial.state.name != "WAITING":
                continue
            trial_id = self._id(trial.number)
            if self._started(trial_id) and not self.drop_duplicate(trial.number):
                return Trial(self.study, trial_id)
        return None

    def drop_duplicate(self, number: int) -> bool:
        """Fail trial ``number`` where an earlier trial of its point stands; returns whether it did."""
        trials = self.trials()
        point = point_of(trials[number])
        double = any(point_of(trial) == point and is_active(trial) for trial in trials[:number])
        if double:
            self._fail(number)
        return double

    @contextmanager
    def holding(self, trial: Trial) -> Iterator[Lease]:
        """Give signs of life while the body works; if it is interrupted the trial is released at once."""
        lease, done = Lease(trial), threading.Event()
        thread = threading.Thread(target=self._send_heartbeats, args=(lease, done), daemon=True)
        trial.set_user_attr("worker", _worker_identity())
        thread.start()
        try:
            yield lease
        except BaseException:
            self._fail(trial.number)
            raise
        finally:
            done.set()
            thread.join()

    def _send_heartbeats(self, lease: Lease, done: threading.Event) -> None:
        from optuna.exceptions import UpdateFinishedTrialError

        count = 0
        trial_id = self._id(lease.trial.number)
        while not done.wait(self.heartbeat):
            count += 1
            try:
                self.storage.set_trial_user_attr(trial_id, "beat", count)
            except UpdateFinishedTrialError:
                lease.expired = True
                return
            except Exception:
                # A storage out of reach for a moment must not end the work; the next beat tries again.
                continue

    def _is_gone(self, trial: FrozenTrial) -> bool:
        worker = trial.user_attrs.get("worker", {})
        if worker and worker["machine"] == _worker_identity()["machine"] is not None:
            return _process(worker["pid"]) != worker["started"]
        heartbeat, now = trial.user_attrs.get("beat"), time.monotonic()
        if trial.number not in self._seen or self._seen[trial.number][0] != heartbeat:
            self._seen[trial.number] = (heartbeat, now)
        return now - self._seen[trial.number][1] > self.expiry

    def _fail(self, number: int) -> None:
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        with suppress(UpdateFinishedTrialError):
            self.storage.set_trial_state_values(self._id(number), TrialState.FAIL)

    def _started(self, trial_id: int) -> bool:
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        try:
            return self.storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        except UpdateFinishedTrialError:
            return False

    def _id(self, number: int) -> int:
        study_id = self.storage.get_study_id_from_name(self.study.study_name)
        return self.storage.get_trial_id_from_study_id_trial_number(study_id, number)


def _worker_identity() -> dict[str, Any]:
    """This process: machine (name, boot and process namespace, so that containers differ), pid, start."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    started = _process(os.getpid())
    # Without /proc a process cannot be looked up: then the name of no machine, and the beat alone tells.
    return {"machine": "/".join(parts) if started else None, "pid": os.getpid(), "started": started}


def _process(pid: int) -> str | None:
    """When a living process of this machine started, in clock ticks since boot; None where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def point_name(params: Mapping[str, Any]) -> str:
    """One text for equal params, whatever their order."""
    return json.dumps(dict(sorted(params.items())))
