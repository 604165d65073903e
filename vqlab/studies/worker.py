"""Workers: processes that take trials of an Optuna study, train their Configs and store the results."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqlab.config import Config
from vqlab.errors import ChangedDataError, InputError
from vqlab.studies.leases import TrialLeases
from vqlab.studies.measures import MEASURES
from vqlab.studies.storage import JOURNAL, open_storage
from vqlab.training import Run, train

if TYPE_CHECKING:
    from optuna import Study, Trial

    from vqlab.studies.leases import Lease

_POLL_SECONDS = 1.0
_FINGERPRINT = "data_fingerprint"


class Worker:
    """Train the trials of one study until none is left; subclasses define the points and their Configs.

    Args:
        study_name: name of the study in the storage; it is created if it does not exist.
        root: the folder of the Runs, and of the journal.
        device: ``cpu`` or ``cuda``; None uses CUDA where available.
        log: called with one line of text for each trial that this worker ends; None logs nothing.
        storage: URL of a database; None uses the journal under ``root``.

    Attributes:
        num_points: number of points of the study, set by subclasses.
        study: the Optuna study.
        leases: the leases on its trials.
    """

    num_points: int

    def __init__(
        self, study_name: str, root: Path, device: str | None, log: Callable[[str], None] | None, storage: str | None
    ) -> None:
        import optuna

        self.root, self.device, self.log = root, device, log or (lambda line: None)
        opened = open_storage(root, storage)
        # Optuna's default would prune points of a grid after five others; a tuning sets a pruner of its own.
        self.study: Study = optuna.create_study(
            storage=opened, study_name=study_name, load_if_exists=True, direction="maximize",
            pruner=optuna.pruners.NopPruner(),
        )  # fmt: skip
        self.leases = TrialLeases(self.study, opened)

    def enqueue_points(self) -> None:
        """Queue the points that have no valid trial."""
        raise NotImplementedError

    def propose_trial(self) -> Trial | None:
        """Create a trial when none waits.

        Returns:
            The trial; None if the study has enough trials.
        """
        return None

    def suggest_config(self, trial: Trial) -> Config:
        """Set the parameters of a trial and build its Config.

        Args:
            trial: a running trial.

        Returns:
            The Config.
        """
        raise NotImplementedError

    def check_images(self) -> None:
        """Find out whether finished trials were measured on other images than those that are there now.

        Trials whose Runs are elsewhere, damaged or without their images are not checked.

        Raises:
            ChangedDataError: if the images differ.
        """
        checked = set[str]()
        for trial in self.leases.trials():
            row = trial.user_attrs.get("row")
            if trial.state.name != "COMPLETE" or not isinstance(row, dict):
                continue
            folder = self.root / str(row.get("run"))
            if not os.path.isfile(folder / "config.json"):
                continue
            try:
                run = Run.open(folder)
                trained_on = run.provenance.get(_FINGERPRINT)
                images = repr((run.config.data, trained_on, run.provenance.get("data_key")))
                if images not in checked:
                    checked.add(images)
                    run.check_data()
            except ChangedDataError:
                raise
            except InputError:
                continue
            if row.get(_FINGERPRINT, trained_on) != trained_on:
                raise ChangedDataError(
                    f"{JOURNAL}: run {run.folder} was trained again on other images after trial {trial.number} had "
                    "measured it; move the journal away (the Runs are kept) and run again"
                )

    def run(self) -> None:
        """Train trials until none waits and none runs on another worker; repeat trials of killed workers.

        Raises:
            ChangedDataError: if finished trials were measured on other images than those that are there now.
        """
        self.check_images()
        while True:
            self.leases.release_expired()
            self.enqueue_points()
            trial = self.leases.acquire() or self.propose_trial()
            if trial is not None:
                with self.leases.hold(trial) as lease:
                    self._run_trial(trial, lease)
            elif self.leases.has_unfinished():
                time.sleep(_POLL_SECONDS)
            else:
                return

    def _run_trial(self, trial: Trial, lease: Lease) -> None:
        from optuna.trial import TrialState

        reporter = _TrialReporter(trial)
        try:
            config = self.suggest_config(trial)
            run = train(
                config, self.root, self.device, reporter, should_stop=lambda: lease.expired or reporter.should_prune
            )
            row = _read_row(run) if run.finished else None
        except OSError:
            # A full disk or a lost network is a fault of this machine, not of the Config: the trial is queued again.
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            trial.set_user_attr("error", reason)
            self.study.tell(trial, state=TrialState.FAIL)
            self._log_outcome(trial, reason)
            return
        if row is not None:
            reporter.report_stored_epochs(run)
            part = run.last_epoch_metrics().get("part", "test")
            trial.set_user_attr("row", row)
            self.study.tell(trial, row["psnr"])
            self._log_outcome(trial, f"PSNR {row['psnr']:.2f} dB, perplexity {row['perplexity']:.0f} ({part} set)")
        elif reporter.should_prune and not lease.expired:
            self.study.tell(trial, state=TrialState.PRUNED)
            self._log_outcome(trial, f"pruned after epoch {max(reporter.epochs) + 1}")

    def _log_outcome(self, trial: Trial, outcome: str) -> None:
        done = sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in self.leases.trials())
        params = ", ".join(f"{short_field_name(field)}={_format_value(value)}" for field, value in trial.params.items())
        self.log(f"[{done}/{self.num_points}] {params}: {outcome}")


def _read_row(run: Run) -> dict[str, Any]:
    """What a finished trial stores."""
    return {**read_measures(run), "run": run.config.id, _FINGERPRINT: run.provenance.get(_FINGERPRINT)}


class _TrialReporter:
    """Progress callback of ``train``: report the PSNR of each epoch on the held-out images and query the pruner."""

    def __init__(self, trial: Trial) -> None:
        self.trial, self.should_prune = trial, False
        self.epochs = set(trial.study.trials[trial.number].intermediate_values)

    def __call__(self, row: Mapping[str, Any]) -> None:
        if row["kind"] == "epoch":
            self._report(int(row["epoch"]), float(row["psnr"]))
            self.should_prune = self.trial.should_prune()

    def report_stored_epochs(self, run: Run) -> None:
        """Report the epochs that were trained before this worker started the trial."""
        rows = run.metrics()
        for row in rows[rows["kind"] == "epoch"].to_dict("records"):
            self._report(int(row["epoch"]), float(row["psnr"]))

    def _report(self, epoch: int, psnr: float) -> None:
        if epoch not in self.epochs:
            self.trial.report(psnr, epoch)
            self.epochs.add(epoch)


def read_measures(run: Run) -> dict[str, Any]:
    """Read the measures that the training stored; compute nothing.

    Args:
        run: a finished Run.

    Returns:
        Values by key of ``MEASURES``, without those that the training does not measure, and ``data``: the name of
        the data set.

    Raises:
        InputError: if the model is not a VQ-VAE, so that it has no PSNR or no perplexity.
    """
    values = {**run.last_epoch_metrics(), **run.provenance}
    if not {"psnr", "perplexity"} <= values.keys():
        raise InputError(
            f"model: is a {run.config.kind}, without a PSNR or a perplexity to compare; use model.kind=vqvae and "
            "prior.kind=none"
        )
    return {name: values[name] for name in (*MEASURES, "data") if values.get(name) is not None}


def short_field_name(field: str) -> str:
    """Last part of a dotted field.

    Args:
        field: a dotted Config field.

    Returns:
        Its name without the section.

    Example:
        >>> short_field_name("quantizer.beta")
        'beta'
    """
    return field.rpartition(".")[2]


def _format_value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) and math.isfinite(value) else str(value)
