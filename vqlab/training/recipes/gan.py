"""The recipe of the GAN baseline: one step of each network per batch."""

from __future__ import annotations

from typing import Any, cast

import torch

from vqlab.data.batches import Batch
from vqlab.losses import discriminator_loss, generator_loss
from vqlab.models import GAN
from vqlab.training.recipes.base import Recipe, StepContext, StepMetrics

_BETA2 = 0.999
_SPREAD_SAMPLES = 64


class GANRecipe(Recipe):
    """Trains a GAN: a generator against a discriminator.

    Goodfellow et al., Generative Adversarial Nets, 2014; the networks have DCGAN's size (Radford et al.,
    Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks, 2015).
    """

    model: GAN

    def setup(self) -> None:
        """Build an Adam optimizer for each network."""
        betas = (self.config.gan.beta1, _BETA2)
        self.generator = self.maybe_compile(self.model.generator)
        self.discriminator = self.maybe_compile(self.model.discriminator)
        self.optimizers = {
            "adam_generator": self.build_adam(self.model.generator, betas=betas),
            "adam_discriminator": self.build_adam(self.model.discriminator, betas=betas),
        }

    def step(self, batch: Batch, context: StepContext, *, logging: bool) -> StepMetrics | None:
        """Train the discriminator on real and generated images, then the generator against it."""
        images, _ = batch
        self.schedule_learning_rates(context)
        shape = (self.items(context), self.config.gan.latent_dim)
        noise = torch.randn(shape, generator=self.noise_generator(context), device=self.device)
        noise = noise[self.workers.part(len(noise))]
        kind = self.config.gan.loss
        with self.autocast():
            fake = self.generator(noise)
            real_scores, fake_scores = self.discriminator(images), self.discriminator(fake.detach())
        d_loss = discriminator_loss(real_scores.float(), fake_scores.float(), kind)
        self.optimizer_step(d_loss, {"adam": self.optimizers["adam_discriminator"]}, context)
        with self.autocast():
            scores = self.discriminator(fake)
        g_loss = generator_loss(scores.float(), kind)
        self.optimizer_step(g_loss, {"adam": self.optimizers["adam_generator"]}, context)
        if not logging:
            return None
        values = {
            "loss": float(g_loss.detach()),
            "discriminator_loss": float(d_loss.detach()),
            "score_real": float(real_scores.detach().mean()),
            "score_fake": float(fake_scores.detach().mean()),
        }
        return StepMetrics(self.workers.mean(values, self.workers.share(self.items(context))))

    def epoch_metrics(self) -> dict[str, Any]:
        """Measure the spread of samples: each pixel's standard deviation over them, averaged; 0 is mode collapse."""
        generator = torch.Generator(self.device).manual_seed(self.config.seed)
        samples = cast(GAN, self.evaluated_model).sample(_SPREAD_SAMPLES, generator)
        return {"data": self.data.name, "sample_spread": float(samples.std(0).mean())}
