"""The recipe of the VQ-VAE."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vqlab.data.batches import Batch
from vqlab.metrics.pixels import psnr
from vqlab.models import VQVAE, VQVAEOutput
from vqlab.training.evaluation import pixel_metrics
from vqlab.training.files import write_atomic
from vqlab.training.gradients import gradient_histograms, gradient_means, gradient_records
from vqlab.training.optimizers import build_optimizers
from vqlab.training.recipes.base import Recipe, StepContext, StepMetrics
from vqlab.training.recipes.reconstruction import ReconstructionCriterion, ReconstructionLoss

# Windows of a training in which usage is counted, at most; a training of more epochs has one window per epoch.
USAGE_WINDOWS = 24


class VQVAERecipe(Recipe):
    """Trains a VQ-VAE on the reconstruction loss plus the VQ loss, and logs the gradients at the quantizer.

    van den Oord et al., Neural Discrete Representation Learning, 2017.
    """

    model: VQVAE

    def setup(self) -> None:
        """Build the optimizer, the reconstruction loss and the usage counts (windows, K)."""
        self.forward = self.maybe_compile(self.model)
        self.optimizers = build_optimizers(self.model, self.config.optim)
        self.criterion = ReconstructionCriterion(self.config, self.data, self.device)
        self.windows_per_epoch = max(1, USAGE_WINDOWS // self.epochs)
        self.usage = np.zeros((self.epochs * self.windows_per_epoch, self.config.quantizer.num_codes), np.int64)
        self.restarts = 0.0
        self.arrays = {"usage": self.usage}

    def step(self, batch: Batch, context: StepContext, *, logging: bool) -> StepMetrics | None:
        """Train on one batch and count the use of each code."""
        images, _ = batch
        self.schedule_learning_rates(context)
        self._set_temperature(context)
        with self.autocast():
            output = self.forward(images)
            reconstruction = self.criterion(output.reconstruction, images)
        records = gradient_records(reconstruction.total, output) if logging else None
        loss = reconstruction.total + output.quantized.loss
        self.optimizer_step(loss, self.optimizers, context)
        indices = output.quantized.indices.flatten()
        window = context.step * self.windows_per_epoch // self.steps_per_epoch
        self.usage[window] += torch.bincount(indices, minlength=self.usage.shape[1]).cpu().numpy()
        self.restarts = float(output.quantized.stats["restarts"])
        return self._step_metrics(images, output, reconstruction, loss, records) if records else None

    def epoch_metrics(self) -> dict[str, Any]:
        """Measure pixel metrics and codebook usage over the test images."""
        return pixel_metrics(self.model, self.data, self.config, self.device)

    def events(self) -> dict[str, dict[str, float]]:
        """Report restarted codes, which occur between the logged steps too."""
        return {"restart": {"restarts": self.restarts}} if self.restarts else {}

    def on_epoch_end(self) -> None:
        """Write ``codebook.npz``: usage counts and the codebook."""
        write_atomic(self.run.folder / "codebook.npz", self._write_codebook)

    def _set_temperature(self, context: StepContext) -> None:
        quantizer = self.config.quantizer
        ratio = quantizer.temperature_end / quantizer.temperature
        self.model.quantizer.temperature = quantizer.temperature * ratio**context.progress

    def _step_metrics(
        self,
        images: Tensor,
        output: VQVAEOutput,
        reconstruction: ReconstructionLoss,
        loss: Tensor,
        records: dict[str, Tensor],
    ) -> StepMetrics:
        values = {
            "loss": float(loss.detach()),
            "reconstruction_loss": float(reconstruction.pixels.detach()),
            "vq_loss": float(output.quantized.loss.detach()),
            **reconstruction.term_columns,
            **self.criterion.measure_perceptual_time(output.reconstruction, images),
            "psnr": float(psnr(output.reconstruction.detach().float(), images).mean()),
            "perplexity_window": "batch",
            **{name: float(value) for name, value in output.quantized.stats.items()},
            **gradient_means(records),
        }
        return StepMetrics(values, gradient_histograms(records))

    def _write_codebook(self, path: Path) -> None:
        epochs = self.usage.reshape(self.epochs, self.windows_per_epoch, -1).sum(axis=1)
        codebook = self.model.quantizer.codebook.detach().cpu().numpy()
        with path.open("wb") as file:
            np.savez_compressed(file, usage=epochs, windows=self.usage, codebook=codebook)
