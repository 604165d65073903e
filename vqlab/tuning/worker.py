"""One process at work on an Optuna study: takes a trial, trains its Config, tells the outcome, until all is done."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqlab.config import Config
from vqlab.errors import InputError
from vqlab.studies import MEASURES
from vqlab.training import Run, train
from vqlab.tuning.claims import Claims
from vqlab.tuning.storage import open_storage

if TYPE_CHECKING:
    from optuna import Study, Trial

    from vqlab.tuning.claims import Held

_POLL_SECONDS = 1.0


class Worker:
    """Works on the study ``name`` in ``storage`` (a URL; else a journal under ``root``) and keeps Runs under ``root``.

    A subclass says which points are to be queued, what Config a trial is for, and may propose trials of its own;
    ``size`` is the number of points.
    """

    size: int

    def __init__(
        self, name: str, root: Path, device: str | None, say: Callable[[str], None] | None, storage: str | None
    ) -> None:
        import optuna

        self.root, self.device, self.say = root, device, say or (lambda line: None)
        opened = open_storage(root, storage)
        self.study: Study = optuna.create_study(
            storage=opened, study_name=name, load_if_exists=True, direction="maximize"
        )
        self.claims = Claims(self.study, opened)

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
            self.claims.release_lost()
            self.queue()
            trial = self.claims.take() or self.propose()
            if trial is not None:
                with self.claims.holding(trial) as held:
                    self._attempt(trial, held)
            elif self.claims.unfinished():
                time.sleep(_POLL_SECONDS)
            else:
                return

    def _attempt(self, trial: Trial, held: Held) -> None:
        from optuna.trial import TrialState

        watch = _Watch(trial)
        try:
            config = self.config(trial)
            run = train(config, self.root, self.device, watch, should_stop=lambda: held.lost or watch.hopeless)
            row = {**measures(run), "run": config.id} if run.finished else None
        except OSError:
            # A full disk or a lost network is this machine's matter: the trial goes back to the queue.
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            trial.set_user_attr("error", reason)
            self.study.tell(trial, state=TrialState.FAIL)
            self._told(trial, reason)
            return
        if row is not None:
            watch.catch_up(run)
            trial.set_user_attr("row", row)
            self.study.tell(trial, row["psnr"])
            self._told(trial, f"PSNR {row['psnr']:.2f} dB, perplexity {row['perplexity']:.0f} (test set)")
        elif watch.hopeless and not held.lost:
            self.study.tell(trial, state=TrialState.PRUNED)
            self._told(trial, f"pruned after epoch {max(watch.epochs) + 1}")

    def _told(self, trial: Trial, outcome: str) -> None:
        done = sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in self.claims.trials())
        params = ", ".join(f"{short(axis)}={_number(value)}" for axis, value in trial.params.items())
        self.say(f"[{done}/{self.size}] {params}: {outcome}")


class _Watch:
    """Reports each epoch's test PSNR of a trial and remembers whether the pruner gave it up."""

    def __init__(self, trial: Trial) -> None:
        self.trial, self.hopeless = trial, False
        self.epochs = set(trial.study.trials[trial.number].intermediate_values)

    def __call__(self, row: Mapping[str, Any]) -> None:
        if row["kind"] == "epoch":
            self._report(int(row["epoch"]), float(row["psnr"]))
            self.hopeless = self.trial.should_prune()

    def catch_up(self, run: Run) -> None:
        """Report the epochs that were trained before this worker took the trial."""
        rows = run.metrics()
        for row in rows[rows["kind"] == "epoch"].to_dict("records"):
            self._report(int(row["epoch"]), float(row["psnr"]))

    def _report(self, epoch: int, psnr: float) -> None:
        if epoch not in self.epochs:
            self.trial.report(psnr, epoch)
            self.epochs.add(epoch)


def measures(run: Run) -> dict[str, Any]:
    """MEASURES of a finished Run that are known, and the name of its data."""
    measured = {**run.last_epoch(), **run.provenance}
    if "psnr" not in measured:
        raise InputError(f"a {run.config.kind} reconstructs nothing, so there is no PSNR to compare")
    return {name: measured[name] for name in (*MEASURES, "data") if measured.get(name) is not None}


def short(axis: str) -> str:
    """The last part of a dotted field."""
    return axis.rpartition(".")[2]


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) and math.isfinite(value) else str(value)
