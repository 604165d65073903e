"""The VQ-VAE: reconstruction, commitment, the codebook's own updates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vqlab.data.batches import Batch
from vqlab.metrics.evaluation import measure
from vqlab.metrics.pixels import psnr
from vqlab.models import VQVAE, VQVAEOutput
from vqlab.training.files import write_whole
from vqlab.training.gradients import gradient_records, histograms, means
from vqlab.training.recipes.base import Error, Place, Recipe, ReconstructionError, Report, per_term

# Windows in which usage is counted, in a training of up to so many epochs; longer ones count by epoch.
WINDOWS = 24


class VQVAERecipe(Recipe):
    """van den Oord et al., Neural Discrete Representation Learning, 2017; logs what the transport did."""

    model: VQVAE

    def prepare(self) -> None:
        """Adam, the reconstruction error, and the tokens of each code in each window of training."""
        self.forward = self.compiled(self.model)
        self.optimizers = {"adam": self.adam(self.model)}
        self.error = ReconstructionError(self)
        self.windows = max(1, WINDOWS // self.epochs)
        self.usage = np.zeros((self.epochs * self.windows, self.config.quantizer.num_codes), np.int64)
        self.restarts = 0.0
        self.arrays = {"usage": self.usage}

    def step(self, batch: Batch, place: Place, *, logging: bool) -> Report | None:
        """Lower reconstruction + VQ loss."""
        images, _ = batch
        self._anneal(place)
        with self.autocast():
            out = self.forward(images)
            error = self.error(out.reconstruction, images)
        records = gradient_records(error.total, out) if logging else None
        loss = error.total + out.quantized.loss
        self.descend(loss, self.optimizers["adam"], place)
        indices = out.quantized.indices.flatten()
        window = place.step * self.windows // self.steps_an_epoch
        self.usage[window] += torch.bincount(indices, minlength=self.usage.shape[1]).cpu().numpy()
        self.restarts = float(out.quantized.stats["restarts"])
        return self._report(images, out, error, loss, records) if records else None

    def measure(self) -> dict[str, Any]:
        """Pixel metrics and perplexity over the test set."""
        return measure(self.model, self.data, self.config, self.device)

    def happened(self) -> dict[str, dict[str, float]]:
        """Restarts: they fall between the steps that are logged in full."""
        return {"restart": {"restarts": self.restarts}} if self.restarts else {}

    def end_epoch(self) -> None:
        """Write codebook.npz: usage and codes."""
        write_whole(self.run.folder / "codebook.npz", self._write_codebook)

    def _anneal(self, place: Place) -> None:
        quantizer = self.config.quantizer
        ratio = quantizer.temperature_end / quantizer.temperature
        self.model.quantizer.temperature = quantizer.temperature * ratio**place.share

    def _report(
        self, images: Tensor, out: VQVAEOutput, error: Error, loss: Tensor, records: dict[str, Tensor]
    ) -> Report:
        row = {
            "loss": float(loss.detach()),
            "reconstruction_loss": float(error.pixels.detach()),
            "vq_loss": float(out.quantized.loss.detach()),
            **per_term(error.terms),
            **self.error.cost(out.reconstruction, images),
            "psnr": float(psnr(out.reconstruction.detach().float(), images).mean()),
            "perplexity_window": "batch",
            **{name: float(value) for name, value in out.quantized.stats.items()},
            **means(records),
        }
        return Report(row, histograms(records))

    def _write_codebook(self, path: Path) -> None:
        epochs = self.usage.reshape(self.epochs, self.windows, -1).sum(axis=1)
        codebook = self.model.quantizer.codebook.detach().cpu().numpy()
        with path.open("wb") as file:
            np.savez_compressed(file, usage=epochs, windows=self.usage, codebook=codebook)
