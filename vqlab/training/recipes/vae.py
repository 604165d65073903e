"""The VAE baseline: the ELBO."""

from __future__ import annotations

from typing import Any

import torch

from vqlab.data.batches import Batch
from vqlab.losses import negative_elbo
from vqlab.metrics.pixels import psnr
from vqlab.models import VAE
from vqlab.training.evaluation import pixel_metrics
from vqlab.training.recipes.base import Recipe, ReconstructionCriterion, StepContext, StepMetrics, term_columns


class VAERecipe(Recipe):
    """Kingma and Welling, Auto-Encoding Variational Bayes, 2013; likelihood: see ``negative_elbo``."""

    model: VAE

    def setup(self) -> None:
        """Adam, and the perceptual terms where the Config weighs them."""
        self.forward = self.maybe_compile(self.model)
        self.optimizers = {"adam": self.build_adam(self.model)}
        self.error = ReconstructionCriterion(self)

    def step(self, batch: Batch, context: StepContext, *, logging: bool) -> StepMetrics | None:
        """Lower −ELBO + perceptual terms, with one draw of the latent an image."""
        images, _ = batch
        shape = (len(images), self.config.vae.latent_dim)
        noise = torch.randn(shape, generator=self.noise_generator(context), device=self.device)
        with self.autocast():
            out = self.forward(images, noise)
            error = self.error(out.reconstruction, images)
        elbo = negative_elbo(out.reconstruction, images, out.mean, out.log_variance, self.config.vae.kl_weight)
        loss = elbo.loss + error.perceptual
        self.optimizer_step(loss, self.optimizers["adam"], context)
        if not logging:
            return None
        row = {
            "loss": float(loss.detach()),
            "kl_nats": float(elbo.kl),
            "pixel_variance": float(elbo.variance),
            **term_columns(error.terms),
            **self.error.cost(out.reconstruction, images),
            "psnr": float(psnr(out.reconstruction.detach().float(), images).mean()),
        }
        return StepMetrics(row)

    def epoch_metrics(self) -> dict[str, Any]:
        """Pixel metrics of the test set, reconstructed from the posterior's mean."""
        return pixel_metrics(self.model, self.data, self.config, self.device)
