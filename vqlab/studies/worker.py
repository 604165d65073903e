"""One process at work on an Optuna study: takes a trial, trains its Config, tells the outcome, until all is done."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqlab.config import Config
from vqlab.errors import InputError
from vqlab.studies.leases import TrialLeases
from vqlab.studies.storage import open_storage
from vqlab.studies.study import MEASURES
from vqlab.training import Run, train

if TYPE_CHECKING:
    from optuna import Study, Trial

    from vqlab.studies.leases import Lease

_POLL_SECONDS = 1.0


class Worker:
    """Works on the study ``name`` in ``storage`` (a URL; else a journal under ``root``) and keeps Runs under ``root``.

    A subclass says which points are to be queued, what Config a trial is for, and may propose trials of its own;
    ``size`` is the number of points.
    """

    size: int

    def __init__(
        self, name: str, root: Path, device: str | None, log: Callable[[str], None] | None, storage: str | None
    ) -> None:
        import optuna

        self.root, self.device, self.log = root, device, log or (lambda line: None)
        opened = open_storage(root, storage)
        self.study: Study = optuna.create_study(
            storage=opened, study_name=name, load_if_exists=True, direction="maximize"
        )
        self.leases = TrialLeases(self.study, opened)

    def queue(self) -> None:
        """Queue the points that are missing."""
        raise NotImplementedError

    def propose(self) -> Trial | None:
        """A trial of this worker's own where none waits; None where there are enough."""
        return None

    def config(self, trial: Trial) -> Config:
        """The Config of a trial, its params suggested."""
        raise NotImplementedError

    def work(self) -> None:
        """Take trials until none is left and none runs elsewhere; those of killed workers come back."""
        while True:
            self.leases.release_expired()
            self.queue()
            trial = self.leases.acquire() or self.propose()
            if trial is not None:
                with self.leases.holding(trial) as lease:
                    self._attempt(trial, lease)
            elif self.leases.unfinished():
                time.sleep(_POLL_SECONDS)
            else:
                return

    def _attempt(self, trial: Trial, lease: Lease) -> None:
        from optuna.trial import TrialState

        reporter = _TrialReporter(trial)
        try:
            config = self.config(trial)
            run = train(config, self.root, self.device, reporter, should_stop=lambda: lease.expired or reporter.pruned)
            row = {**run_measures(run), "run": config.id} if run.finished else None
        except OSError:
            # A full disk or a lost network is this machine's matter: the trial goes back to the queue.
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            trial.set_user_attr("error", reason)
            self.study.tell(trial, state=TrialState.FAIL)
            self._row_summary(trial, reason)
            return
        if row is not None:
            reporter.catch_up(run)
            trial.set_user_attr("row", row)
            self.study.tell(trial, row["psnr"])
            self._row_summary(trial, f"PSNR {row['psnr']:.2f} dB, perplexity {row['perplexity']:.0f} (test set)")
        elif reporter.pruned and not lease.expired:
            self.study.tell(trial, state=TrialState.PRUNED)
            self._row_summary(trial, f"pruned after epoch {max(reporter.epochs) + 1}")

    def _row_summary(self, trial: Trial, outcome: str) -> None:
        done = sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in self.leases.trials())
        params = ", ".join(f"{short_name(axis)}={_number(value)}" for axis, value in trial.params.items())
        self.log(f"[{done}/{self.size}] {params}: {outcome}")


class _TrialReporter:
    """Reports each epoch's test PSNR of a trial and remembers whether the pruner gave it up."""

    def __init__(self, trial: Trial) -> None:
        self.trial, self.pruned = trial, False
        self.epochs = set(trial.study.trials[trial.number].intermediate_values)

    def __call__(self, row: Mapping[str, Any]) -> None:
        if row["kind"] == "epoch":
            self._report(int(row["epoch"]), float(row["psnr"]))
            self.pruned = self.trial.should_prune()

    def catch_up(self, run: Run) -> None:
        """Report the epochs that were trained before this worker took the trial."""
        rows = run.metrics()
        for row in rows[rows["kind"] == "epoch"].to_dict("records"):
            self._report(int(row["epoch"]), float(row["psnr"]))

    def _report(self, epoch: int, psnr: float) -> None:
        if epoch not in self.epochs:
            self.trial.report(psnr, epoch)
            self.epochs.add(epoch)


def run_measures(run: Run) -> dict[str, Any]:
    """MEASURES of a finished Run that are known, and the name of its data."""
    measured = {**run.last_epoch(), **run.provenance}
    if "psnr" not in measured:
        raise InputError(f"a {run.config.kind} reconstructs nothing, so there is no PSNR to compare")
    return {name: measured[name] for name in (*MEASURES, "data") if measured.get(name) is not None}


def short_name(axis: str) -> str:
    """The last part of a dotted field."""
    return axis.rpartition(".")[2]


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) and math.isfinite(value) else str(value)
