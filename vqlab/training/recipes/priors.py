"""The recipes of the priors over the code grids of a trained VQ-VAE."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Int64
from torch import Tensor

from vqlab.data.batches import Batch, seeded_generator
from vqlab.models import CodeTransformer, LatentDiffusion
from vqlab.training.codes import check_codebook, code_vectors, codebook_digest, load_code_grids
from vqlab.training.recipes.base import Recipe, StepContext, StepMetrics

_TEST_BATCH_SIZE = 256


class PriorRecipe(Recipe):
    """What both priors share: code grids as data, a linear decay of the learning rate, and dropped labels.

    Attributes:
        grids: the code grids of the VQ-VAE's images.
    """

    def setup(self) -> None:
        """Load the code grids and build the optimizer; a resumed prior must have the same codebook as before.

        Raises:
            InputError: if the VQ-VAE's Run is missing or has another codebook.
        """
        codec = self.run.codec()
        if self.run.provenance:
            check_codebook(self.run, codec)
        with self.workers.main_first():
            self.grids = load_code_grids(codec, self.device)
        self.extra_provenance = {"codec": {"run": codec.config.id, "codebook": codebook_digest(codec.model())}}
        self.optimizers = {"adam": self.build_adam(self.model, lr=self.config.prior.learning_rate)}

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return self.config.prior.epochs

    @property
    def batch_size(self) -> int:
        """Code grids in a step, those of all processes together."""
        return self.config.prior.batch_size

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """Iterate over code grids (B, h, w), or (B, h, w, n), and labels (B,), in the shuffled order of the epoch."""
        order = torch.randperm(len(self.grids.train), generator=seeded_generator(self.config.seed, epoch))
        for whole in order.split(self.batch_size)[start:]:
            indices = whole[self.workers.part(len(whole))]
            yield self.grids.train[indices].to(self.device), self.data.train.labels[indices].to(self.device)

    def drop_labels(
        self, labels: Int64[Tensor, " B"], generator: torch.Generator, context: StepContext
    ) -> Int64[Tensor, " B"]:
        """Replace a random share of the labels by the null label, which trains the prior without labels too.

        Ho and Salimans, Classifier-Free Diffusion Guidance, 2022; the share is ``prior.drop_label``.

        Args:
            labels: class indices.
            generator: the random generator, on the labels' device.
            context: position of the step in the training.

        Returns:
            The labels; the null label is the number of classes.
        """
        items = self.items(context)
        drawn = torch.rand(items, generator=generator, device=labels.device)[self.workers.part(items)]
        dropped = drawn < self.config.prior.drop_label
        return labels.masked_fill(dropped, len(self.data.class_names))

    def decay_learning_rate(self, context: StepContext) -> None:
        """Set the learning rate of a step: a linear decay from ``prior.learning_rate`` to 0.

        Args:
            context: position of the step in the training.
        """
        for group in self.optimizers["adam"].param_groups:
            group["lr"] = self.config.prior.learning_rate * (1 - context.step / context.total_steps)

    def test_batches(self) -> Iterator[Int64[Tensor, "B h w *codes"]]:
        """Iterate over the code grids of the test images, in their order.

        Yields:
            Code grids on the device.
        """
        for codes in self.grids.test.split(_TEST_BATCH_SIZE):
            yield codes.to(self.device)


class TransformerRecipe(PriorRecipe):
    """Trains a transformer on the cross-entropy of each code, given the codes before it."""

    model: CodeTransformer

    def setup(self) -> None:
        """Load the code grids and build the optimizer; compile the network if the Config says so."""
        super().setup()
        self.forward = self.maybe_compile(self.model)

    def step(self, batch: Batch, context: StepContext, *, logging: bool) -> StepMetrics | None:
        """Train on the cross-entropy over all positions of the grids."""
        codes, labels = batch
        self.decay_learning_rate(context)
        with self.autocast():
            logits = self.forward(codes, self.drop_labels(labels, self.noise_generator(context), context))
        loss = F.cross_entropy(logits.float().flatten(0, 1), codes.flatten())
        joined = self.optimizer_step(loss, self.optimizers, context)
        return StepMetrics({"loss": float(joined), "nats_a_code": float(joined)}) if logging else None

    def epoch_metrics(self) -> dict[str, Any]:
        """Measure the cross-entropy on the test grids without labels, nats per code."""
        nats = [
            F.cross_entropy(self.model(codes).flatten(0, 1), codes.flatten(), reduction="none").double().cpu()
            for codes in self.test_batches()
        ]
        return {"data": self.data.name, "nats_a_code": float(torch.cat(nats).mean())}


class DiffusionRecipe(PriorRecipe):
    """Trains a UNet to predict z_q from z_q with noise."""

    model: LatentDiffusion

    def setup(self) -> None:
        """Load the code grids, build the optimizer and give the model the code vectors and their statistics."""
        super().setup()
        self.model.set_code_statistics(code_vectors(self.run.codec().model()), self.grids.train)

    def step(self, batch: Batch, context: StepContext, *, logging: bool) -> StepMetrics | None:
        """Train on the mean squared error of the predicted z_q."""
        codes, labels = batch
        self.decay_learning_rate(context)
        generator = self.noise_generator(context, own=True)
        kept = self.drop_labels(labels, generator, context)
        with self.autocast():
            loss = self.model(codes, kept, generator)
        joined = self.optimizer_step(loss, self.optimizers, context)
        return StepMetrics({"loss": float(joined), "denoising_error": float(joined)}) if logging else None

    def epoch_metrics(self) -> dict[str, Any]:
        """Measure the error of the predicted z_q on the test grids without labels, with the same noise each time."""
        generator = seeded_generator(self.config.seed, device=self.device)
        null_label = len(self.data.class_names)
        errors = [
            float(self.model(codes, codes.new_full((len(codes),), null_label), generator))
            for codes in self.test_batches()
        ]
        return {"data": self.data.name, "denoising_error": sum(errors) / len(errors)}
