"""The training loop: idempotent, resumable at any step, the same weights every time on CPU."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from vqlab.config import Config
from vqlab.data import ImageData, batches, load_data
from vqlab.errors import InputError
from vqlab.losses import reconstruction_loss
from vqlab.metrics.pixels import psnr
from vqlab.models import VQVAE, VQVAEOutput
from vqlab.training import checkpoint
from vqlab.training.device import find_device
from vqlab.training.files import write_json, write_whole
from vqlab.training.gradients import gradient_records, histograms, means
from vqlab.training.logs import RunLog
from vqlab.training.memory import peak_mib, reset_peak
from vqlab.training.provenance import describe
from vqlab.training.run import Run

Progress = Callable[[dict[str, Any]], None]

_WINDOWS = 24


def windows_an_epoch(epochs: int) -> int:
    """Windows in which usage is counted in each epoch: about 24 in a training, at least one an epoch."""
    return max(1, _WINDOWS // epochs)


def train(
    config: Config,
    root: str | Path = "runs",
    device: str | None = None,
    progress: Progress | None = None,
    stop_after_steps: int | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Run:
    """The Run of ``config`` under ``root``: returned if finished, resumed if interrupted, else trained.

    device: found (CUDA, else CPU) unless named. progress: called with each logged row.
    stop_after_steps: leave after so many steps of this call, with a checkpoint. should_stop: asked after
    every step; True leaves with a checkpoint too.
    Raises InputError for data that cannot be read, an absent device, a loss
    that is no number, or a folder that holds another Config.
    """
    device = find_device(device)
    run = Run.create(Path(root) / config.id, config)
    if run.finished:
        return run
    _Training(run, device, progress, should_stop).go(stop_after_steps)
    return run


class _Training:
    """One call of ``train``: the live objects and the step they have reached."""

    def __init__(
        self, run: Run, device: str, progress: Progress | None, should_stop: Callable[[], bool] | None
    ) -> None:
        config = run.config
        self.run, self.config, self.device, self.progress = run, config, device, progress
        self.should_stop = should_stop or (lambda: False)
        self.stopped = False
        self.data: ImageData = load_data(config.data)
        self.variance = float(self.data.train.pixels.numpy().astype(np.float64).var() / 255**2)
        self.model = VQVAE(config.model, config.quantizer, config.seed).to(device)
        self.forward = torch.compile(self.model) if config.optim.compile else self.model
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.optim.learning_rate)
        self.windows = windows_an_epoch(config.optim.epochs)
        self.usage = np.zeros((config.optim.epochs * self.windows, config.quantizer.num_codes), np.int64)
        self.step = checkpoint.load(run.folder, self.model, self.optimizer, self.usage)
        self.steps_an_epoch = math.ceil(len(self.data.train) / config.optim.batch_size)
        self.last_step = self.steps_an_epoch * config.optim.epochs
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
        optim, data = self.config.optim, self.config.data
        epoch, start = divmod(self.step, self.steps_an_epoch)
        self.model.train()
        for images, _ in batches(
            self.data.train, optim.batch_size, seed=self.config.seed, epoch=epoch, augment=data.augment,
            crop_padding=data.crop_padding, start=start, device=self.device,
        ):  # fmt: skip
            self._one_step(images, epoch)
            self.stopped = self.should_stop()
            if self.stopped or self.step >= stop:
                break
            if self.step % self.config.evaluation.checkpoint_every == 0:
                self._save(finished=False)
        if self.step % self.steps_an_epoch == 0:
            self._end_of_epoch(epoch)

    def _one_step(self, images: Tensor, epoch: int) -> None:
        began = time.perf_counter()
        logging = self.step % self.config.evaluation.log_every == 0
        self._anneal()
        with torch.autocast(self.device, torch.bfloat16, enabled=self.config.optim.precision == "bf16"):
            out = self.forward(images)
            error = reconstruction_loss(out.reconstruction, images, self.config.loss, self.variance)
        records = gradient_records(error, out) if logging else None
        loss = error + out.quantized.loss
        if not bool(loss.isfinite()):
            raise InputError(
                f"training diverged: the loss at step {self.step + 1} is {float(loss.detach())}; "
                "lower optim.learning_rate or use optim.precision=fp32 (the last checkpoint is kept)"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.usage[self.step * self.windows // self.steps_an_epoch] += (
            torch.bincount(out.quantized.indices.flatten(), minlength=self.usage.shape[1]).cpu().numpy()
        )
        self.step += 1
        restarts = float(out.quantized.stats["restarts"])
        if restarts:
            # Restarts fall between the steps that are logged in full.
            self.log.add({"kind": "restart", "step": self.step, "epoch": epoch, "restarts": restarts})
        if records:
            self._log_step(images, out, error, loss, records, epoch, time.perf_counter() - began)

    def _anneal(self) -> None:
        quantizer = self.config.quantizer
        share = self.step / max(1, self.last_step - 1)
        self.model.quantizer.temperature = (
            quantizer.temperature * (quantizer.temperature_end / quantizer.temperature) ** share
        )

    def _log_step(
        self,
        images: Tensor,
        out: VQVAEOutput,
        error: Tensor,
        loss: Tensor,
        records: dict[str, Tensor],
        epoch: int,
        seconds: float,
    ) -> None:
        self._add(
            {
                "kind": "train",
                "step": self.step,
                "epoch": epoch,
                "loss": float(loss.detach()),
                "reconstruction_loss": float(error.detach()),
                "vq_loss": float(out.quantized.loss.detach()),
                "psnr": float(psnr(out.reconstruction.detach().float(), images).mean()),
                "perplexity_window": "batch",
                **{name: float(value) for name, value in out.quantized.stats.items()},
                **means(records),
                "images_per_second": len(images) / seconds,
            }
        )
        self.log.angles.add({"step": self.step, "epoch": epoch, **histograms(records)})

    @torch.no_grad()
    def _end_of_epoch(self, epoch: int) -> None:
        from vqlab.metrics.evaluation import measure

        self.model.eval()
        self._add(
            {
                "kind": "epoch",
                "step": self.step,
                "epoch": epoch,
                **measure(self.model, self.data, self.config, self.device),
            }
        )
        write_whole(self.run.folder / "codebook.npz", self._write_codebook)
        self._save(finished=False)

    def _write_codebook(self, path: Path) -> None:
        epochs = self.usage.reshape(-1, self.windows, self.usage.shape[1]).sum(axis=1)
        codebook = self.model.quantizer.codebook.detach().cpu().numpy()
        with path.open("wb") as file:
            np.savez_compressed(file, usage=epochs, windows=self.usage, codebook=codebook)

    def _add(self, row: dict[str, Any]) -> None:
        self.log.add(row)
        if self.progress:
            self.progress({**row, "last_step": self.last_step})

    def _save(self, *, finished: bool) -> None:
        folder = self.run.folder
        checkpoint.save(folder, self.step, self.model, self.optimizer, self.usage)
        if finished:
            weights = {key: value.detach().cpu().contiguous().clone() for key, value in self.model.state_dict().items()}
            write_whole(folder / "model.safetensors", lambda beside: save_file(weights, beside))
        seconds = self.seconds_before + time.perf_counter() - self.started
        write_json(
            folder / "provenance.json",
            {
                **describe(self.device, self.config.seed, self.data.fingerprint),
                "wall_seconds": seconds,
                "peak_memory_mib": peak_mib(self.device),
                "step": self.step,
                "finished": finished,
            },
        )
