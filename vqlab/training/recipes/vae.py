"""The VAE baseline: the ELBO."""

from __future__ import annotations

from typing import Any

import torch

from vqlab.data.batches import Batch
from vqlab.losses import negative_elbo
from vqlab.metrics.evaluation import measure
from vqlab.metrics.pixels import psnr
from vqlab.models import VAE
from vqlab.training.recipes.base import Place, Recipe, ReconstructionError, Report, per_term


class VAERecipe(Recipe):
    """Kingma and Welling, Auto-Encoding Variational Bayes, 2013; likelihood: see ``negative_elbo``."""

    model: VAE

    def prepare(self) -> None:
        """Adam, and the perceptual terms where the Config weighs them."""
        self.forward = self.compiled(self.model)
        self.optimizers = {"adam": self.adam(self.model)}
        self.error = ReconstructionError(self)

    def step(self, batch: Batch, place: Place, *, logging: bool) -> Report | None:
        """Lower −ELBO + perceptual terms, with one draw of the latent an image."""
        images, _ = batch
        shape = (len(images), self.config.vae.latent_dim)
        noise = torch.randn(shape, generator=self.noise_generator(place), device=self.device)
        with self.autocast():
            out = self.forward(images, noise)
            error = self.error(out.reconstruction, images)
        elbo = negative_elbo(out.reconstruction, images, out.mean, out.log_variance, self.config.vae.kl_weight)
        loss = elbo.loss + error.perceptual
        self.descend(loss, self.optimizers["adam"], place)
        if not logging:
            return None
        row = {
            "loss": float(loss.detach()),
            "kl_nats": float(elbo.kl),
            "pixel_variance": float(elbo.variance),
            **per_term(error.terms),
            **self.error.cost(out.reconstruction, images),
            "psnr": float(psnr(out.reconstruction.detach().float(), images).mean()),
        }
        return Report(row)

    def measure(self) -> dict[str, Any]:
        """Pixel metrics of the test set, reconstructed from the posterior's mean."""
        return measure(self.model, self.data, self.config, self.device)
