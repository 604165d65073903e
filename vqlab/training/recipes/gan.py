"""The GAN baseline: one step of each network a batch."""

from __future__ import annotations

from typing import Any

import torch

from vqlab.data.batches import Batch
from vqlab.losses import discriminator_loss, generator_loss
from vqlab.models import GAN
from vqlab.training.recipes.base import Recipe, StepContext, StepMetrics

_BETA2 = 0.999


class GANRecipe(Recipe):
    """Goodfellow et al., Generative Adversarial Nets, 2014, of DCGAN's size (Radford et al., 2015)."""

    model: GAN

    def setup(self) -> None:
        """An Adam for each network."""
        betas = (self.config.gan.beta1, _BETA2)
        self.generate, self.judge = (
            self.maybe_compile(self.model.generator),
            self.maybe_compile(self.model.discriminator),
        )
        self.optimizers = {
            "adam_generator": self.build_adam(self.model.generator, betas=betas),
            "adam_discriminator": self.build_adam(self.model.discriminator, betas=betas),
        }

    def step(self, batch: Batch, context: StepContext, *, logging: bool) -> StepMetrics | None:
        """The discriminator on the batch and on fakes, then the generator against it."""
        images, _ = batch
        shape = (len(images), self.config.gan.latent_dim)
        noise = torch.randn(shape, generator=self.noise_generator(context), device=self.device)
        kind = self.config.gan.loss
        with self.autocast():
            fake = self.generate(noise)
            real_scores, fake_scores = self.judge(images), self.judge(fake.detach())
        judged = discriminator_loss(real_scores.float(), fake_scores.float(), kind)
        self.optimizer_step(judged, self.optimizers["adam_discriminator"], context)
        with self.autocast():
            scores = self.judge(fake)
        fooled = generator_loss(scores.float(), kind)
        self.optimizer_step(fooled, self.optimizers["adam_generator"], context)
        if not logging:
            return None
        row = {
            "loss": float(fooled.detach()),
            "discriminator_loss": float(judged.detach()),
            "score_real": float(real_scores.detach().mean()),
            "score_fake": float(fake_scores.detach().mean()),
        }
        return StepMetrics(row)

    def epoch_metrics(self) -> dict[str, Any]:
        """Spread of a batch of samples: the mean standard deviation of a pixel over them; 0 tells mode collapse."""
        generator = torch.Generator(self.device).manual_seed(self.config.seed)
        samples = self.model.sample(64, generator)
        return {"data": self.data.name, "sample_spread": float(samples.std(0).mean())}
