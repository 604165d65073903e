"""The training loop: idempotent, resumable at any step, the same weights every time on CPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from vqlab.config import Config
from vqlab.data.batches import Batch
from vqlab.training import checkpoint
from vqlab.training.device import find_device
from vqlab.training.files import write_atomic, write_json
from vqlab.training.logs import RunLog
from vqlab.training.memory import peak_memory_mib, reset_peak_memory
from vqlab.training.provenance import collect_provenance
from vqlab.training.recipes import StepContext, build_recipe
from vqlab.training.run import Run
from vqlab.training.run_lock import run_lock

Progress = Callable[[dict[str, Any]], None]
Observer = Callable[[nn.Module], None]


def train(
    config: Config,
    root: str | Path = "runs",
    device: str | None = None,
    progress: Progress | None = None,
    stop_after_steps: int | None = None,
    should_stop: Callable[[], bool] | None = None,
    observer: Observer | None = None,
) -> Run:
    """The Run of ``config`` under ``root``: returned if finished, resumed if interrupted, else trained.

    device: found (CUDA, else CPU) unless named. progress: called with each logged row.
    stop_after_steps: leave after so many steps of this call, with a checkpoint. should_stop: asked after
    every step; True leaves with a checkpoint too. watch: shown the model after each logged step, in eval mode and
    without gradients, to look and not to touch. A prior's VQ-VAE is trained first where it is not finished.
    A Run that another thread or process is training is waited for, then returned or gone on with.
    Raises InputError for data that cannot be read, an absent device, a loss
    that is no number, or a folder that holds another Config.
    """
    device = find_device(device)
    run = Run.create(Path(root) / config.id, config)
    if run.finished:
        return run
    if config.codec() != config:
        codec = train(config.codec(), root, device, progress, should_stop=should_stop)
        if not codec.finished:
            return run
    with run_lock(run, should_stop or (lambda: False)) as acquired:
        if acquired:
            _Training(run, device, progress, should_stop, observer).run_steps(stop_after_steps)
    return run


class _Training:
    """One call of ``train``: the recipe, the logs, and the step they have reached."""

    def __init__(
        self,
        run: Run,
        device: str,
        progress: Progress | None,
        should_stop: Callable[[], bool] | None,
        observer: Observer | None = None,
    ) -> None:
        self.run, self.config, self.device, self.progress = run, run.config, device, progress
        self.should_stop = should_stop or (lambda: False)
        self.observer = observer
        self.stopped = False
        self.recipe = build_recipe(run, device)
        self.model = self.recipe.model
        self.step = checkpoint.load(run.folder, self.model, self.recipe.optimizers, self.recipe.arrays)
        self.last_step = self.recipe.steps_per_epoch * self.recipe.epochs
        self.seconds_before = float(run.provenance.get("wall_seconds", 0.0))
        self.started = time.perf_counter()
        reset_peak_memory(device)
        self.log = RunLog(run.folder, self.step)

    def run_steps(self, stop_after_steps: int | None) -> None:
        """Train to the end, or for ``stop_after_steps`` steps; a checkpoint is left in any case."""
        stop = self.last_step if stop_after_steps is None else min(self.last_step, self.step + stop_after_steps)
        try:
            while self.step < stop and not self.stopped:
                self._epoch(stop)
            self._save(finished=self.step >= self.last_step)
        finally:
            self.log.close()

    def _epoch(self, stop: int) -> None:
        epoch, start = divmod(self.step, self.recipe.steps_per_epoch)
        self.model.train()
        for batch in self.recipe.batches(epoch, start):
            self._train_step(batch, epoch)
            self.stopped = self.should_stop()
            if self.stopped or self.step >= stop:
                break
            if self.step % self.config.evaluation.checkpoint_every == 0:
                self._save(finished=False)
        if self.step % self.recipe.steps_per_epoch == 0:
            self._end_of_epoch(epoch)

    def _train_step(self, batch: Batch, epoch: int) -> None:
        began = time.perf_counter()
        logging = self.step % self.config.evaluation.log_every == 0
        metrics = self.recipe.step(batch, StepContext(self.step, epoch, self.last_step), logging=logging)
        self.step += 1
        for kind, values in self.recipe.events().items():
            self.log.add({"kind": kind, "step": self.step, "epoch": epoch, **values})
        if metrics:
            speed = len(batch[0]) / (time.perf_counter() - began)
            self._add("train", epoch, {**metrics.row, "images_per_second": speed})
        if metrics and metrics.angles:
            self.log.angles.add({"step": self.step, "epoch": epoch, **metrics.angles})
        if metrics:
            self._notify_observers()

    @torch.no_grad()
    def _notify_observers(self) -> None:
        if self.observer:
            self.model.eval()
            self.observer(self.model)
            self.model.train()

    @torch.no_grad()
    def _end_of_epoch(self, epoch: int) -> None:
        self.model.eval()
        self._add("epoch", epoch, self.recipe.epoch_metrics())
        self.recipe.on_epoch_end()
        self._save(finished=False)

    def _add(self, kind: str, epoch: int, values: dict[str, Any]) -> None:
        row = {"kind": kind, "step": self.step, "epoch": epoch, **values}
        self.log.add(row)
        if self.progress:
            self.progress({**row, "last_step": self.last_step})

    def _save(self, *, finished: bool) -> None:
        folder = self.run.folder
        checkpoint.save(folder, self.step, self.model, self.recipe.optimizers, self.recipe.arrays)
        if finished:
            weights = {key: value.detach().cpu().contiguous().clone() for key, value in self.model.state_dict().items()}
            write_atomic(folder / "model.safetensors", lambda beside: save_file(weights, beside))
        seconds = self.seconds_before + time.perf_counter() - self.started
        write_json(
            folder / "provenance.json",
            {
                **collect_provenance(self.device, self.config.seed, self.recipe.data.fingerprint),
                "wall_seconds": seconds,
                "peak_memory_mib": peak_memory_mib(self.device),
                **self.recipe.provenance,
                "classes": len(self.recipe.data.class_names),
                "step": self.step,
                "finished": finished,
            },
        )
