"""The VQ-VAE: reconstruction, commitment, the codebook's own updates."""

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
from vqlab.training.gradients import gradient_records, histograms, means
from vqlab.training.recipes.base import (
    Recipe,
    ReconstructionCriterion,
    ReconstructionLoss,
    StepContext,
    StepMetrics,
    term_columns,
)

# Windows in which usage is counted, in a training of up to so many epochs; longer ones count by epoch.
WINDOWS = 24


class VQVAERecipe(Recipe):
    """van den Oord et al., Neural Discrete Representation Learning, 2017; logs what the transport did."""

    model: VQVAE

    def setup(self) -> None:
        """Adam, the reconstruction error, and the tokens of each code in each window of training."""
        self.forward = self.maybe_compile(self.model)
        self.optimizers = {"adam": self.build_adam(self.model)}
        self.error = ReconstructionCriterion(self)
        self.windows = max(1, WINDOWS // self.epochs)
        self.usage = np.zeros((self.epochs * self.windows, self.config.quantizer.num_codes), np.int64)
        self.restarts = 0.0
        self.arrays = {"usage": self.usage}

    def step(self, batch: Batch, context: StepContext, *, logging: bool) -> StepMetrics | None:
        """Lower reconstruction + VQ loss."""
        images, _ = batch
        self._anneal(context)
        with self.autocast():
            out = self.forward(images)
            error = self.error(out.reconstruction, images)
        records = gradient_records(error.total, out) if logging else None
        loss = error.total + out.quantized.loss
        self.optimizer_step(loss, self.optimizers["adam"], context)
        indices = out.quantized.indices.flatten()
        window = context.step * self.windows // self.steps_per_epoch
        self.usage[window] += torch.bincount(indices, minlength=self.usage.shape[1]).cpu().numpy()
        self.restarts = float(out.quantized.stats["restarts"])
        return self._report(images, out, error, loss, records) if records else None

    def epoch_metrics(self) -> dict[str, Any]:
        """Pixel metrics and perplexity over the test set."""
        return pixel_metrics(self.model, self.data, self.config, self.device)

    def events(self) -> dict[str, dict[str, float]]:
        """Restarts: they fall between the steps that are logged in full."""
        return {"restart": {"restarts": self.restarts}} if self.restarts else {}

    def on_epoch_end(self) -> None:
        """Write codebook.npz: usage and codes."""
        write_atomic(self.run.folder / "codebook.npz", self._write_codebook)

    def _anneal(self, context: StepContext) -> None:
        quantizer = self.config.quantizer
        ratio = quantizer.temperature_end / quantizer.temperature
        self.model.quantizer.temperature = quantizer.temperature * ratio**context.share

    def _report(
        self, images: Tensor, out: VQVAEOutput, error: ReconstructionLoss, loss: Tensor, records: dict[str, Tensor]
    ) -> StepMetrics:
        row = {
            "loss": float(loss.detach()),
            "reconstruction_loss": float(error.pixels.detach()),
            "vq_loss": float(out.quantized.loss.detach()),
            **term_columns(error.terms),
            **self.error.cost(out.reconstruction, images),
            "psnr": float(psnr(out.reconstruction.detach().float(), images).mean()),
            "perplexity_window": "batch",
            **{name: float(value) for name, value in out.quantized.stats.items()},
            **means(records),
        }
        return StepMetrics(row, histograms(records))

    def _write_codebook(self, path: Path) -> None:
        epochs = self.usage.reshape(self.epochs, self.windows, -1).sum(axis=1)
        codebook = self.model.quantizer.codebook.detach().cpu().numpy()
        with path.open("wb") as file:
            np.savez_compressed(file, usage=epochs, windows=self.usage, codebook=codebook)
