"""Priors over the code grids of a trained VQ-VAE."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vqlab.data.batches import Batch, seeded_generator
from vqlab.models import CodeTransformer, LatentDiffusion
from vqlab.training.codes import check_codebook, code_grids, code_vectors, codebook_digest
from vqlab.training.recipes.base import Recipe, StepContext, StepMetrics

_TEST_BATCH = 256


class PriorRecipe(Recipe):
    """What both priors share: grids for images, a learning rate that falls linearly to 0, labels hidden at times."""

    def setup(self) -> None:
        """The grids, from the VQ-VAE's Run; raises InputError where a resumed prior knew another codebook."""
        codec = self.run.codec()
        if self.run.provenance:
            check_codebook(self.run, codec)
        self.grids = code_grids(codec, self.device)
        self.provenance = {"codec": {"run": codec.config.id, "codebook": codebook_digest(codec.model())}}
        self.optimizers = {"adam": self.build_adam(self.model, lr=self.config.prior.learning_rate)}

    @property
    def epochs(self) -> int:
        """Passes over the grids."""
        return self.config.prior.epochs

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass."""
        return math.ceil(len(self.data.train) / self.config.prior.batch_size)

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """Grids (B, h, w) and labels (B,) in the shuffled order of the epoch."""
        order = torch.randperm(len(self.grids.train), generator=seeded_generator(self.config.seed, epoch))
        for chosen in order.split(self.config.prior.batch_size)[start:]:
            yield self.grids.train[chosen].to(self.device), self.data.train.labels[chosen].to(self.device)

    def drop_labels(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """The labels, a share of them replaced by the one that stands for none."""
        hidden = torch.rand(labels.shape, generator=generator, device=labels.device) < self.config.prior.drop_label
        return labels.masked_fill(hidden, len(self.data.class_names))

    def decay_learning_rate(self, context: StepContext) -> None:
        """The learning rate of this step."""
        for group in self.optimizers["adam"].param_groups:
            group["lr"] = self.config.prior.learning_rate * (1 - context.step / context.last_step)

    def test_batches(self) -> Iterator[Tensor]:
        """The test grids in order."""
        for codes in self.grids.test.split(_TEST_BATCH):
            yield codes.to(self.device)


class TransformerRecipe(PriorRecipe):
    """Lower the nats of each code given those before it."""

    model: CodeTransformer

    def setup(self) -> None:
        """Grids, Adam, the network."""
        super().setup()
        self.forward = self.maybe_compile(self.model)

    def step(self, batch: Batch, context: StepContext, *, logging: bool) -> StepMetrics | None:
        """Cross-entropy over all cells of the grids."""
        codes, labels = batch
        self.decay_learning_rate(context)
        with self.autocast():
            logits = self.forward(codes, self.drop_labels(labels, self.noise_generator(context)))
        loss = F.cross_entropy(logits.float().flatten(0, 1), codes.flatten())
        self.optimizer_step(loss, self.optimizers["adam"], context)
        return StepMetrics({"loss": float(loss.detach()), "nats_a_code": float(loss.detach())}) if logging else None

    def epoch_metrics(self) -> dict[str, Any]:
        """Nats a code on the test grids, no label given."""
        nats = [
            F.cross_entropy(self.model(codes).flatten(0, 1), codes.flatten(), reduction="none").double().cpu()
            for codes in self.test_batches()
        ]
        return {"data": self.data.name, "nats_a_code": float(torch.cat(nats).mean())}


class DiffusionRecipe(PriorRecipe):
    """Lower the error of the z_q that the UNet finds under noise."""

    model: LatentDiffusion

    def setup(self) -> None:
        """Grids, Adam, the codes and their scale."""
        super().setup()
        self.model.set_code_statistics(code_vectors(self.run.codec().model()), self.grids.train)

    def step(self, batch: Batch, context: StepContext, *, logging: bool) -> StepMetrics | None:
        """Mean squared error of the z_q found."""
        codes, labels = batch
        self.decay_learning_rate(context)
        generator = self.noise_generator(context)
        with self.autocast():
            loss = self.model(codes, self.drop_labels(labels, generator), generator)
        self.optimizer_step(loss, self.optimizers["adam"], context)
        return StepMetrics({"loss": float(loss.detach()), "denoising_error": float(loss.detach())}) if logging else None

    def epoch_metrics(self) -> dict[str, Any]:
        """Error of the z_q found on the test grids, no label given, the same noise each time."""
        generator = seeded_generator(self.config.seed, device=self.device)
        none = len(self.data.class_names)
        errors = [
            float(self.model(codes, codes.new_full((len(codes),), none), generator)) for codes in self.test_batches()
        ]
        return {"data": self.data.name, "denoising_error": sum(errors) / len(errors)}
