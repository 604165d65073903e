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
from vqlab.training.alone import alone
from vqlab.training.device import find_device
from vqlab.training.files import write_json, write_whole
from vqlab.training.logs import RunLog
from vqlab.training.memory import peak_mib, reset_peak
from vqlab.training.provenance import describe
from vqlab.training.recipes import Place, recipe_for
from vqlab.training.run import Run

Progress = Callable[[dict[str, Any]], None]
Watch = Callable[[nn.Module], None]


def train(
    config: Config,
    root: str | Path = "runs",
    device: str | None = None,
    progress: Progress | None = None,
    stop_after_steps: int | None = None,
    should_stop: Callable[[], bool] | None = None,
    watch: Watch | None = None,
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
    with alone(run, should_stop or (lambda: False)) as mine:
        if mine:
            _Training(run, device, progress, should_stop, watch).go(stop_after_steps)
    return run


class _Training:
    """One call of ``train``: the recipe, the logs, and the step they have reached."""

    def __init__(
        self,
        run: Run,
        device: str,
        progress: Progress | None,
        should_stop: Callable[[], bool] | None,
        watch: Watch | None = None,
    ) -> None:
        self.run, self.config, self.device, self.progress = run, run.config, device, progress
        self.should_stop = should_stop or (lambda: False)
        self.watch = watch
        self.stopped = False
        self.recipe = recipe_for(run, device)
        self.model = self.recipe.model
        self.step = checkpoint.load(run.folder, self.model, self.recipe.optimizers, self.recipe.arrays)
        self.last_step = self.recipe.steps_an_epoch * self.recipe.epochs
        self.seconds_before = float(run.provenance.get("wall_seconds", 0.0))
        self.started = time.perf_counter()
        reset_peak(device)
        self.log = RunLog(run.folder, self.step)

    def go(self, stop_after_steps: int | None) -> None:
        """Train to the end, or for ``stop_after_steps`` steps; a checkpoint is left in any case."""
        stop = self.last_step if stop_after_steps is None else min(self.last_step, self.step + stop_after_steps)
        try:
            while self.step < stop and not self.stopped:
                self._epoch(stop)
            self._save(finished=self.step >= self.last_step)
        finally:
            self.log.close()

    def _epoch(self, stop: int) -> None:
        epoch, start = divmod(self.step, self.recipe.steps_an_epoch)
        self.model.train()
        for batch in self.recipe.batches(epoch, start):
            self._one_step(batch, epoch)
            self.stopped = self.should_stop()
            if self.stopped or self.step >= stop:
                break
            if self.step % self.config.evaluation.checkpoint_every == 0:
                self._save(finished=False)
        if self.step % self.recipe.steps_an_epoch == 0:
            self._end_of_epoch(epoch)

    def _one_step(self, batch: Batch, epoch: int) -> None:
        began = time.perf_counter()
        logging = self.step % self.config.evaluation.log_every == 0
        report = self.recipe.step(batch, Place(self.step, epoch, self.last_step), logging=logging)
        self.step += 1
        for kind, values in self.recipe.happened().items():
            self.log.add({"kind": kind, "step": self.step, "epoch": epoch, **values})
        if report:
            speed = len(batch[0]) / (time.perf_counter() - began)
            self._add("train", epoch, {**report.row, "images_per_second": speed})
        if report and report.angles:
            self.log.angles.add({"step": self.step, "epoch": epoch, **report.angles})
        if report:
            self._be_watched()

    @torch.no_grad()
    def _be_watched(self) -> None:
        if self.watch:
            self.model.eval()
            self.watch(self.model)
            self.model.train()

    @torch.no_grad()
    def _end_of_epoch(self, epoch: int) -> None:
        self.model.eval()
        self._add("epoch", epoch, self.recipe.measure())
        self.recipe.end_epoch()
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
            write_whole(folder / "model.safetensors", lambda beside: save_file(weights, beside))
        seconds = self.seconds_before + time.perf_counter() - self.started
        write_json(
            folder / "provenance.json",
            {
                **describe(self.device, self.config.seed, self.recipe.data.fingerprint),
                "wall_seconds": seconds,
                "peak_memory_mib": peak_mib(self.device),
                **self.recipe.origin,
                "classes": len(self.recipe.data.class_names),
                "step": self.step,
                "finished": finished,
            },
        )
