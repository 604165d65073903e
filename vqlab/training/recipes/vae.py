"""The recipe of the VAE baseline."""

from __future__ import annotations

from typing import Any, cast

import torch

from vqlab.data.batches import Batch
from vqlab.losses import negative_elbo
from vqlab.metrics.pixels import psnr
from vqlab.models import VAE
from vqlab.training.evaluation import pixel_metrics
from vqlab.training.optimizers import build_optimizers
from vqlab.training.recipes.base import Recipe, StepContext, StepMetrics
from vqlab.training.recipes.reconstruction import ReconstructionCriterion


class VAERecipe(Recipe):
    """Trains a VAE on −ELBO (``vqlab.losses.negative_elbo``) plus the perceptual terms.

    Kingma and Welling, Auto-Encoding Variational Bayes, 2013.
    """

    model: VAE

    def setup(self) -> None:
        """Build the optimizer and the reconstruction loss."""
        self.forward = self.maybe_compile(self.model)
        self.optimizers = build_optimizers(self.model, self.config.optim)
        self.criterion = ReconstructionCriterion(self.config, self.data, self.device)

    def step(self, batch: Batch, context: StepContext, *, logging: bool) -> StepMetrics | None:
        """Train on one batch, with one sample of the latent vector per image."""
        images, _ = batch
        self.schedule_learning_rates(context)
        items = self.items(context)
        shape = (items, self.config.vae.latent_dim)
        noise = torch.randn(shape, generator=self.noise_generator(context), device=self.device)[
            self.workers.part(items)
        ]
        with self.autocast():
            output = self.forward(images, noise)
            reconstruction = self.criterion(output.reconstruction, images)
        elbo = negative_elbo(output.reconstruction, images, output.mean, output.log_variance, self.config.vae.kl_weight)
        loss = elbo.loss + reconstruction.perceptual
        self.optimizer_step(loss, self.optimizers, context)
        if not logging:
            return None
        values = {
            "loss": float(loss.detach()),
            "kl_nats": float(elbo.kl),
            "pixel_variance": float(elbo.variance),
            **reconstruction.term_columns,
            **self.criterion.measure_perceptual_time(output.reconstruction, images),
            "psnr": float(psnr(output.reconstruction.detach().float(), images).mean()),
        }
        return StepMetrics(self.workers.mean(values, self.workers.share(self.items(context))))

    def epoch_metrics(self) -> dict[str, Any]:
        """Measure pixel metrics of the held-out images, reconstructed from the mean of the posterior."""
        model = cast(VAE, self.evaluated_model)
        return pixel_metrics(model, self.data, self.config, self.device, held_out=True, workers=self.workers)
