"""The training loop: returns a finished Run, resumes an interrupted one, and gives the same weights every time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vqlab.config import Config, field_values
from vqlab.data import load_data
from vqlab.data.batches import Batch
from vqlab.data.folder import source_key
from vqlab.errors import InputError
from vqlab.files import write_json
from vqlab.training.best_weights import BestWeights
from vqlab.training.checkpoint import load_checkpoint, remove_previous_checkpoint, save_checkpoint
from vqlab.training.device import slow_precision
from vqlab.training.files import write_tensors
from vqlab.training.logs import NoLog, RunLog
from vqlab.training.memory import peak_memory_mib, reset_peak_memory
from vqlab.training.memory_estimate import ImageCounts, check_memory
from vqlab.training.provenance import collect_provenance
from vqlab.training.recipes import StepContext, build_recipe
from vqlab.training.repair import remove_damaged_files
from vqlab.training.retraining import find_run, images_changed, set_aside
from vqlab.training.run import Run, is_finished
from vqlab.training.run_lock import run_lock
from vqlab.training.stop_signals import StopSignal, stop_signals
from vqlab.training.workers import Workers, is_launched, join_workers

ProgressCallback = Callable[[dict[str, Any]], None]
Observer = Callable[[nn.Module], None]

# Of the message about a training that diverged.
_SHOWN_ROWS = 3


def train(
    config: Config,
    root: str | Path = "runs",
    device: str | None = None,
    progress: ProgressCallback | None = None,
    stop_after_steps: int | None = None,
    should_stop: Callable[[], bool] | None = None,
    observer: Observer | None = None,
    *,
    retrain: bool = False,
    force: bool = False,
    processes: int = 1,
) -> Run:
    """Train a Config, or return its Run if it is finished.

    The Run is the folder ``root/config.id``. A finished Run is returned unchanged. An interrupted Run resumes from
    its last checkpoint; on the CPU its weights equal bit for bit those of an uninterrupted training. The Config of a
    prior trains its VQ-VAE first, unless that Run is finished. If another thread or process is training the Run,
    the call waits, then returns the finished Run or resumes it.

    In the main thread, SIGINT (Ctrl-C) and SIGTERM stop the training after its step, with a checkpoint; the same call
    goes on from there. A second signal ends it at once.

    Args:
        config: what to train; ``config.kind`` is a VQ-VAE, a VAE, a GAN or a prior.
        root: the folder of all Runs, created if missing. Default ``runs`` in the working directory.
        device: a torch device such as ``cpu`` or ``cuda:1``; None (default) selects CUDA if this machine has it, else
            the CPU. It is no part of the Config, so a Run may resume on another device, but then to slightly other
            weights.
        progress: called with each row of kind ``train`` or ``epoch`` that is written to ``metrics.jsonl``, extended
            by ``total_steps``; see ``vqlab.training.progress.training_progress``. None (default) reports nothing.
        stop_after_steps: maximum number of steps of this call; training stops there with a checkpoint, and the next
            call resumes. None (default) trains to the end. It does not limit the VQ-VAE under a prior.
        should_stop: called after each step; True stops training with a checkpoint. It is also called while waiting
            for another thread or process, where True ends the wait. None (default) never stops.
        observer: called with the model after each logged step, in eval mode and without gradients; it must not change
            the model. It does not receive the VQ-VAE under a prior. None (default) calls nothing.
        retrain: whether an existing Run of the Config is renamed (see ``set_aside``) and trained again, with the
            VQ-VAE under a prior if its images have changed. Default False.
        force: whether to train although the estimated memory is more than the machine or the accelerator has. Default
            False: that is refused.
        processes: how many processes of this machine train together, each on a part of every batch. Default 1: this
            one. They give the same Run but for rounding. Under torchrun or ``accelerate launch``, leave it at 1: all
            processes call this function, and train together.

    Returns:
        The Run; ``run.finished`` is False if ``stop_after_steps`` or ``should_stop`` ended the training early.

    Raises:
        InputError: if the images or the networks of a loss cannot be read, the device is not available, the memory is
            too small, the loss is NaN or infinite, a file of the Run is damaged, or the folder holds another Config.
        ChangedDataError: if the Run, or the VQ-VAE under a prior, was trained on other images, without ``retrain``.
        KeyboardInterrupt: after SIGINT, when the checkpoint is written.
        SystemExit: after SIGTERM, with status 143, when the checkpoint is written.
    """
    if processes != 1 and not is_launched():
        if observer:
            raise InputError(f"processes={processes}: the observer would be in another process; leave it out")
        return _train_in_processes(
            config, Path(root), device, processes, progress, should_stop,
            stop_after_steps=stop_after_steps, retrain=retrain, force=force,
        )  # fmt: skip
    workers = join_workers(device)
    with workers.main_first():
        config = find_run(Path(root), config)
        if retrain and workers.is_main:
            set_aside(Path(root) / config.id)
        run = Run.create(Path(root) / config.id, config)
        if workers.is_main:
            remove_damaged_files(run)
    if workers.broadcast(run.finished):
        run.check_data()
        return run
    if config.prior.kind != "none":
        replaced = retrain and images_changed(Path(root) / config.codec().id)
        if not force:
            _check_memory_of_prior(run, workers.device)
        codec = train(config.codec(), root, device, progress, should_stop=should_stop, retrain=replaced, force=force)
        if not codec.finished:
            return run
    if workers.is_main and (line := slow_precision(config.optim.precision, workers.device)):
        print(line, file=sys.stderr)
    with _lock(run, workers, should_stop or (lambda: False)) as acquired:
        if acquired:
            training = _Training(run, workers, progress, should_stop, observer, force=force)
            with stop_signals() as received:
                training.run_steps(stop_after_steps, received)
    return run


def _train_in_processes(config: Config, root: Path, *arguments: Any, **options: Any) -> Run:
    from vqlab.training.processes import train_in_processes

    train_in_processes(config, root, *arguments, **options)
    return Run.create(root / find_run(root, config).id, config)


@contextmanager
def _lock(run: Run, workers: Workers, should_stop: Callable[[], bool]) -> Iterator[bool]:
    """The lock of a Run, which the main process holds for all."""
    with run_lock(run, should_stop) if workers.is_main else nullcontext(False) as acquired:
        yield workers.broadcast(acquired)
        workers.wait()


def _check_memory_of_prior(run: Run, device: str) -> None:
    """Check the memory of a prior before its VQ-VAE is trained, which checks its own."""
    if not is_finished(run.folder.parent, run.config.codec()):
        check_memory(run.config, device, ImageCounts.of(load_data(run.config.data)), "the prior's ")


class _Training:
    """The state of one call of ``train``: recipe, logs and current step."""

    def __init__(
        self,
        run: Run,
        workers: Workers,
        progress: ProgressCallback | None,
        should_stop: Callable[[], bool] | None,
        observer: Observer | None = None,
        *,
        force: bool = False,
    ) -> None:
        self.run, self.config, self.workers, device = run, run.config, workers, workers.device
        self.progress = progress if workers.is_main else None
        self.should_stop = should_stop or (lambda: False)
        self.observer = observer if workers.is_main else None
        self.stopped = False
        self.recipe = build_recipe(run, workers, force=force)
        self.model = self.recipe.model
        recipe = self.recipe
        self.step = load_checkpoint(run.folder, recipe.modules, recipe.optimizers, recipe.arrays, workers)
        recipe.scaler.restore()
        self._check_last_batch()
        self.skipped_before = int(recipe.arrays["skipped_steps"][0]) if recipe.guard else 0
        self.total_steps = self.recipe.steps_per_epoch * self.recipe.epochs
        # Of the code that this process has loaded; it takes long to collect, so not at each save.
        self.provenance = {
            **collect_provenance(device, self.config.seed, self.recipe.data.fingerprint),
            "precision": self.config.optim.precision,
            "compile": self.config.optim.compile,
            **({"processes": workers.size} if workers.size > 1 else {}),
        }
        self.data_key = source_key(self.config.data)
        self.previous_seconds = float(run.provenance.get("wall_seconds", 0.0))
        self.start_time = self.last_save = time.perf_counter()
        self.save_is_due = False
        reset_peak_memory(device)
        self.log = RunLog(run.folder, self.step, field_values(self.config)) if workers.is_main else NoLog()
        self.best = None
        if self.config.evaluation.weights == "best" and workers.is_main:
            self.best = BestWeights(run.folder, self.step)

    def _check_last_batch(self) -> None:
        recipe, size = self.recipe, self.workers.size
        smallest = min(recipe.batch_size, len(recipe.data.train) % recipe.batch_size or recipe.batch_size)
        if smallest < size:
            raise InputError(
                f"batch_size={recipe.batch_size}: the last batch of {len(recipe.data.train)} images has {smallest}, "
                f"which leaves some of the {size} processes without any; change optim.batch_size or data.train_limit"
            )

    def run_steps(self, stop_after_steps: int | None, received: StopSignal) -> None:
        """Train to the end, for ``stop_after_steps`` steps or until a signal, then write a checkpoint."""
        self.received = received
        end = self.total_steps if stop_after_steps is None else min(self.total_steps, self.step + stop_after_steps)
        try:
            if self.step >= self.total_steps:
                # After a repair no step is left to train, but files may be missing.
                self.recipe.on_epoch_end()
            while self.step < end and not self.stopped:
                self._train_epoch(end)
            self._save(finished=self.step >= self.total_steps)
        finally:
            self.log.close()

    def _train_epoch(self, end: int) -> None:
        epoch, start = divmod(self.step, self.recipe.steps_per_epoch)
        self.model.train()
        for batch in self.recipe.batches(epoch, start):
            self._train_step(batch, epoch)
            self._agree_to_stop()
            if self.stopped or self.step >= end:
                break
            if self.step % self.config.evaluation.checkpoint_every == 0 or self.save_is_due:
                self._save(finished=False)
        if self.step % self.recipe.steps_per_epoch == 0:
            self._end_epoch(epoch)

    def _agree_to_stop(self) -> None:
        """Stop all processes at one step, whichever of them was told to; likewise for a checkpoint that is due."""
        minutes = self.config.evaluation.checkpoint_minutes
        is_due = minutes > 0 and time.perf_counter() - self.last_save >= 60 * minutes
        number, stopped, due = self.workers.agree(self.received.number or 0, int(self.should_stop()), int(is_due))
        self.received.number = number or None
        self.stopped, self.save_is_due = bool(stopped or number), bool(due)

    def _train_step(self, batch: Batch, epoch: int) -> None:
        start = time.perf_counter()
        logging = self.step % self.config.evaluation.log_every == 0
        guard = self.recipe.guard
        if guard:
            guard.start()
        context = StepContext(self.step, epoch, self.total_steps)
        metrics = self.recipe.step(batch, context, logging=logging)
        self.recipe.update_average()
        if guard:
            guard.finish()
        self.step += 1
        if logging:
            self._raise_if_diverged()
        for kind, values in self.recipe.events().items():
            self.log.add_metrics({"kind": kind, "step": self.step, "epoch": epoch, **values})
        if metrics is None:
            return
        images_per_second = self.recipe.items(context) / (time.perf_counter() - start)
        if guard:
            metrics.values["skipped_steps"] = self.skipped_before + int(guard.skipped)
        self._log("train", epoch, {**metrics.values, "images_per_second": images_per_second})
        if metrics.histograms:
            self.log.add_histograms({"step": self.step, "epoch": epoch, **metrics.histograms})
        self._notify_observer()

    def _raise_if_diverged(self) -> None:
        """Raise InputError if a loss was not finite; with a guard such steps are taken back."""
        if not self.recipe.guard:
            self.recipe.finite_check.raise_if_diverged(self._last_losses)

    def _last_losses(self) -> str:
        rows = self.log.losses(_SHOWN_ROWS)
        losses = ", ".join(f"{row['loss']:.4g} at step {row['step']}" for row in rows)
        return f" (before: {losses})" if losses else ""

    @torch.no_grad()
    def _notify_observer(self) -> None:
        if self.observer:
            self.model.eval()
            self.observer(self.model)
            self.model.train()

    @torch.no_grad()
    def _end_epoch(self, epoch: int) -> None:
        self._raise_if_diverged()
        self.recipe.evaluated_model.eval()
        metrics = self.recipe.epoch_metrics()
        if self.best:
            self.best.offer(self.recipe.evaluated_model, metrics["psnr"], self.step)
        self._log("epoch", epoch, metrics)
        self.recipe.on_epoch_end()
        self._save(finished=False)

    def _log(self, kind: str, epoch: int, values: dict[str, Any]) -> None:
        row = {"kind": kind, "step": self.step, "epoch": epoch, **values}
        self.log.add_metrics(row)
        if self.progress:
            self.progress({**row, "total_steps": self.total_steps})

    def _save(self, *, finished: bool) -> None:
        folder, recipe = self.run.folder, self.recipe
        self._raise_if_diverged()
        recipe.synchronize()
        recipe.scaler.store()
        if recipe.guard:
            recipe.arrays["skipped_steps"][0] = self.skipped_before + int(recipe.guard.skipped)
        self.last_save = time.perf_counter()
        if self.workers.is_main:
            self.log.synchronize()
            save_checkpoint(folder, self.step, recipe.modules, recipe.optimizers, recipe.arrays)
        if finished and self.config.evaluation.weights == "best":
            if self.best:
                self.best.restore(recipe.evaluated_model)
            recipe.on_epoch_end()
        if not self.workers.is_main:
            return
        if finished:
            write_tensors(folder / "model.safetensors", recipe.evaluated_model.state_dict())
            remove_previous_checkpoint(folder)
        self._write_provenance(finished=finished)

    def _write_provenance(self, *, finished: bool) -> None:
        data, best = self.recipe.data, self.best
        wall_seconds = self.previous_seconds + time.perf_counter() - self.start_time
        write_json(
            self.run.folder / "provenance.json",
            {
                **self.provenance,
                "wall_seconds": wall_seconds,
                "peak_memory_mib": peak_memory_mib(self.workers.device),
                **({"data_key": self.data_key} if self.data_key else {}),
                **self.recipe.extra_provenance,
                "classes": len(data.class_names),
                **({"data_notes": data.notes} if data.notes else {}),
                **({"best_step": best.step} if best and best.step else {}),
                "step": self.step,
                "finished": finished,
            },
        )
