"""Leases on the trials of an Optuna study: a trial of a killed worker is repeated, and no point is done twice.

Optuna's own heartbeat works only with SQL storages; this one also works with a journal file. A worker that starts a
trial writes its identity (machine, process), then increments a heartbeat counter. The lease of a trial expires when its
process no longer runs on this machine, or when the counter has not changed for ``EXPIRY_SECONDS`` by the clock of the
observer, so the clocks of two machines need not agree. An expired trial is marked as failed and its point is queued
again. Two workers may queue one point at the same moment. Trials have one order in the storage, so all workers agree
that the first one counts; a worker that acquires another one drops it.
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


def point_key(params: Mapping[str, Any]) -> str:
    """Identify a point by its parameters.

    Args:
        params: values by name.

    Returns:
        JSON with sorted names: equal for equal parameters in any order.

    Example:
        >>> point_key({"b": 2, "a": 1})
        '{"a": 1, "b": 2}'
    """
    return json.dumps(dict(sorted(params.items())))


def trial_point_key(trial: FrozenTrial) -> str:
    """Identify the point of a trial.

    Args:
        trial: a trial of the study.

    Returns:
        The key under which the trial was queued; its number if a sampler proposed it.
    """
    return str(trial.user_attrs.get("point", trial.number))


def is_failed(trial: FrozenTrial) -> bool:
    """Whether a trial failed, expired or was dropped; False if it waits, runs, is finished or was pruned.

    Args:
        trial: a trial of the study.

    Returns:
        True or False.
    """
    return trial.state.name == "FAIL"


def has_error(trial: FrozenTrial) -> bool:
    """Whether a trial failed because its training raised an error, such as a diverged loss.

    Args:
        trial: a trial of the study.

    Returns:
        True or False.
    """
    return is_failed(trial) and "error" in trial.user_attrs


@dataclass
class Lease:
    """A trial that this worker runs.

    Attributes:
        trial: the trial.
        expired: True as soon as another worker has marked the trial as failed; stop its training then.
    """

    trial: Trial
    expired: bool = False


class TrialLeases:
    """Queue, acquire, hold and release the trials of one study.

    Args:
        study: the study.
        storage: its storage.
        heartbeat: seconds between two increments of the heartbeat counter, above 0.
        expiry: seconds without a new heartbeat after which a lease expires; use several times ``heartbeat``.
    """

    def __init__(
        self, study: Study, storage: BaseStorage, heartbeat: float = HEARTBEAT_SECONDS, expiry: float = EXPIRY_SECONDS
    ) -> None:
        self.study, self.storage, self.heartbeat, self.expiry = study, storage, heartbeat, expiry
        # Last counter of each running trial, and when this observer first read it.
        self._heartbeats: dict[int, tuple[Any, float]] = {}

    def trials(self) -> list[FrozenTrial]:
        """Read all trials from the storage.

        Returns:
            The trials in the order of their numbers.
        """
        return self.study.get_trials(deepcopy=False)

    def has_unfinished(self) -> bool:
        """Whether any trial waits or runs.

        Returns:
            True or False.
        """
        return any(trial.state.name in ("WAITING", "RUNNING") for trial in self.trials())

    def enqueue(self, points: Mapping[str, Mapping[str, Any]], retry: bool = False) -> None:
        """Queue every point whose trials all expired or were dropped, and every point without a trial.

        Args:
            points: parameters of each point, by its key.
            retry: also queue points whose training raised an error.
        """
        settled = {
            trial_point_key(trial)
            for trial in self.trials()
            if not is_failed(trial) or (has_error(trial) and not retry)
        }
        for key, params in points.items():
            if key not in settled:
                self.study.enqueue_trial(dict(params), user_attrs={"point": key})

    def release_expired(self) -> list[FrozenTrial]:
        """Mark the running trials with an expired lease as failed.

        Returns:
            Those trials, as they were before.
        """
        expired = [trial for trial in self.trials() if trial.state.name == "RUNNING" and self._is_expired(trial)]
        for trial in expired:
            self._fail(trial.number)
        return expired

    def acquire(self) -> Trial | None:
        """Start the first waiting trial that no other worker has started.

        Returns:
            The trial, now running; None if no trial waits.
        """
        from optuna import Trial

        for trial in self.trials():
            if trial.state.name != "WAITING":
                continue
            trial_id = self._trial_id(trial.number)
            if self._start(trial_id) and not self.drop_duplicate(trial.number):
                return Trial(self.study, trial_id)
        return None

    def drop_duplicate(self, number: int) -> bool:
        """Mark a trial as failed if an earlier trial of the same point has not failed.

        Args:
            number: number of the trial.

        Returns:
            Whether the trial was dropped.
        """
        trials = self.trials()
        key = trial_point_key(trials[number])
        duplicate = any(trial_point_key(trial) == key and not is_failed(trial) for trial in trials[:number])
        if duplicate:
            self._fail(number)
        return duplicate

    @contextmanager
    def hold(self, trial: Trial) -> Iterator[Lease]:
        """Send heartbeats for a trial while the body of the ``with`` statement runs.

        If the body raises an exception, the trial is marked as failed at once, so that it can be queued again.

        Args:
            trial: a trial from ``acquire``.

        Yields:
            The lease.
        """
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
        trial_id = self._trial_id(lease.trial.number)
        while not done.wait(self.heartbeat):
            count += 1
            try:
                self.storage.set_trial_user_attr(trial_id, "beat", count)
            except UpdateFinishedTrialError:
                lease.expired = True
                return
            except Exception:
                # A storage that fails for a moment must not end the training; the next heartbeat tries again.
                continue

    def _is_expired(self, trial: FrozenTrial) -> bool:
        worker = trial.user_attrs.get("worker", {})
        if worker and worker["machine"] == _worker_identity()["machine"] is not None:
            return _process_start(worker["pid"]) != worker["started"]
        count, now = trial.user_attrs.get("beat"), time.monotonic()
        if trial.number not in self._heartbeats or self._heartbeats[trial.number][0] != count:
            self._heartbeats[trial.number] = (count, now)
        return now - self._heartbeats[trial.number][1] > self.expiry

    def _fail(self, number: int) -> None:
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        with suppress(UpdateFinishedTrialError):
            self.storage.set_trial_state_values(self._trial_id(number), TrialState.FAIL)

    def _start(self, trial_id: int) -> bool:
        """Start a waiting trial; return False if another worker was faster."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        try:
            return self.storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        except UpdateFinishedTrialError:
            return False

    def _trial_id(self, number: int) -> int:
        study_id = self.storage.get_study_id_from_name(self.study.study_name)
        return self.storage.get_trial_id_from_study_id_trial_number(study_id, number)


def _worker_identity() -> dict[str, Any]:
    """Machine (name, boot and process namespace, which differ between containers), pid and start of this process."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    started = _process_start(os.getpid())
    # Without /proc no process can be looked up: the machine stays unnamed, and only the heartbeat counts.
    return {"machine": "/".join(parts) if started else None, "pid": os.getpid(), "started": started}


def _process_start(pid: int) -> str | None:
    """Start of a running process of this machine, in clock ticks since boot; None if it does not run."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
