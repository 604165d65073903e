"""The recipe of the VQ-VAE."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from vqlab.data.batches import Batch
from vqlab.errors import InputError
from vqlab.files import write_atomic
from vqlab.metrics.pixels import psnr
from vqlab.models import VQVAE, VQVAEOutput
from vqlab.quantize import QuantizerOutput, VectorQuantizer
from vqlab.quantize.usage import count_codes, usage_without_table
from vqlab.training.evaluation import pixel_metrics
from vqlab.training.gradients import gradient_histograms, gradient_means, gradient_records
from vqlab.training.optimizers import build_optimizers
from vqlab.training.recipes.accumulation import PassResult, join_results
from vqlab.training.recipes.adversarial import AdversarialTerm
from vqlab.training.recipes.base import Recipe, StepContext, StepMetrics
from vqlab.training.recipes.reconstruction import ReconstructionCriterion, ReconstructionLoss

# Windows of a training in which usage is counted, at most; a training of more epochs has one window per epoch.
USAGE_WINDOWS = 24
# K-means gets this many vectors for each code after steps without quantization: one batch may have 2 or fewer.
_VECTORS_PER_CODE = 40


class VQVAERecipe(Recipe):
    """Trains a VQ-VAE on the reconstruction loss plus the VQ loss, and logs the gradients at the quantizer.

    van den Oord et al., Neural Discrete Representation Learning, 2017.
    """

    model: VQVAE

    def setup(self) -> None:
        """Build the optimizer, the reconstruction loss and the usage counts (windows, K).

        Raises:
            InputError: if ``quantizer.start_after`` is not below the steps of an epoch.
        """
        self.compiled_losses = self.maybe_compile(self._losses)
        self.model_optimizers = build_optimizers(self.model, self.config.optim)
        self.optimizers = dict(self.model_optimizers)
        self.adversarial = None
        if self.config.loss.adversarial:
            self.adversarial = AdversarialTerm(self.config, self.model.decoder, self.workers)
            self.modules["discriminator"] = self.adversarial.discriminator
            self.optimizers["adam_discriminator"] = self.adversarial.optimizer
        self.criterion = ReconstructionCriterion(self.config, self.data, self.device)
        self.windows_per_epoch = max(1, USAGE_WINDOWS // self.epochs)
        self.usage = np.zeros((self.epochs * self.windows_per_epoch, *self._codes), np.int64)
        self._window = 0
        self._counts = torch.zeros(self._codes, dtype=torch.int64, device=self.device)
        self.restarts = 0.0
        self.arrays = {"usage": self.usage}
        if self.config.quantizer.start_after >= self.steps_per_epoch:
            raise InputError(
                f"quantizer.start_after={self.config.quantizer.start_after}: must be below the {self.steps_per_epoch} "
                "steps of an epoch, so that each epoch ends with a codebook to measure; lower it"
            )

    def step(self, batch: Batch, context: StepContext, *, logging: bool) -> StepMetrics | None:
        """Train on one batch and count the use of each code."""
        images, _ = batch
        self.schedule_learning_rates(context)
        if context.step < self.config.quantizer.start_after:
            return self._unquantized_step(images, context, logging=logging)
        if context.step == self.config.quantizer.start_after > 0:
            self._fit_codes(context)
        decoder_only = context.step >= (1 - self.config.optim.decoder_phase) * context.total_steps
        self._schedule_quantizer(context, decoder_only=decoder_only)
        record = logging and not decoder_only
        if self.config.optim.accumulate > 1:
            result = self._optimize_parts(images, context, decoder_only=decoder_only, record=record)
        else:
            result = self._forward(images, decoder_only=decoder_only, record=record)
            self._optimize(result, images, context)
        self._count_usage(result.output, context)
        return self._step_metrics(images, result, context) if logging else None

    def epoch_metrics(self) -> dict[str, Any]:
        """Measure pixel metrics and codebook usage over the validation images, or the test images without any."""
        model = cast(VQVAE, self.evaluated_model)
        return pixel_metrics(model, self.data, self.config, self.device, held_out=True, workers=self.workers)

    def events(self) -> dict[str, dict[str, float]]:
        """Report restarted codes, which occur between the logged steps too."""
        return {"restart": {"restarts": self.restarts}} if self.restarts else {}

    def on_epoch_end(self) -> None:
        """Write ``codebook.npz``: usage counts and the codebook."""
        self.synchronize()
        if self.workers.is_main:
            write_atomic(self.run.folder / "codebook.npz", self._write_codebook)

    @property
    def _codes(self) -> tuple[int, ...]:
        """Shape of the counts of codes: (K,), or (n, K) for vectors of n codes."""
        config = self.config.quantizer
        return (config.num_codes,) if config.codes_per_vector == 1 else (config.codes_per_vector, config.num_codes)

    def _forward(self, images: Tensor, *, decoder_only: bool, record: bool) -> PassResult:
        """One forward pass and its losses, and the gradients of each token if they are recorded."""
        # A compiled graph does not give the gradients at the quantizer, which lies inside of it.
        losses = self._losses if record else self.compiled_losses
        with self.autocast():
            output, reconstruction = losses(images, decoder_only=decoder_only)
        records = {}
        if record:
            own = gradient_records(reconstruction.total, output, self.model.quantizer, self.scaler.factor)
            joined = self.workers.gather(torch.stack(list(own.values()), dim=1))
            records = dict(zip(own, joined.unbind(dim=1), strict=True))
        return PassResult(output, reconstruction, reconstruction.total + output.quantized.loss, records)

    def _losses(self, images: Tensor, *, decoder_only: bool) -> tuple[VQVAEOutput, ReconstructionLoss]:
        output = self._frozen_forward(images) if decoder_only else self.model(images)
        return output, self.criterion(output.reconstruction, images)

    def _optimize_parts(self, images: Tensor, context: StepContext, *, decoder_only: bool, record: bool) -> PassResult:
        """A step whose batch is computed in parts (``optim.accumulate``); the codebooks see the whole batch once."""
        parts = images.tensor_split(min(self.config.optim.accumulate, len(images)))
        shares = [len(part) / len(images) for part in parts]
        results, updates = list[PassResult](), list[QuantizerOutput]()
        self._fill_codes(parts)

        def losses() -> Iterator[tuple[Tensor, float]]:
            with self._frozen_codes():
                for part, share in zip(parts, shares, strict=True):
                    result = self._forward(part, decoder_only=decoder_only, record=record)
                    yield result.loss, share
                    results.append(result.detached())
                    del result  # with its activations, before those of the next part
            # Before the optimizers change the projections, as in a step of one part.
            with torch.no_grad():
                updates.append(self.model.quantizer(torch.cat([result.output.z_e for result in results])))

        self.optimizer_step(losses(), self.model_optimizers, context)
        return join_results(results, shares, updates[0])

    @contextmanager
    def _frozen_codes(self) -> Iterator[None]:
        """No first fill, EMA step or restart; the gradients of codes are not affected."""
        books = self.model.quantizer.books
        for book in books:
            book.frozen = True
        try:
            yield
        finally:
            for book in books:
                book.frozen = False

    def _fill_codes(self, parts: Sequence[Tensor]) -> None:
        """The first fill of the codes, from the vectors of the whole batch, before parts of it need codes."""
        if any(book.awaits_first_fill() and not bool(book.filled) for book in self.model.quantizer.books):
            with torch.no_grad(), self.autocast():
                z_e = torch.cat([self.model.encoder(part) for part in parts])
            self.model.quantizer.fit_codes(self.workers.gather(z_e))

    def _optimize(self, result: PassResult, images: Tensor, context: StepContext) -> None:
        """One step of the model and, from its start on, one of the discriminator."""
        term = self.adversarial
        if term is None or context.step < self.config.loss.adversarial_start * context.total_steps:
            self.optimizer_step(result.loss, self.model_optimizers, context)
            return
        reconstruction = result.output.reconstruction
        share = self.workers.share(self.items(context))
        adversarial_loss = term.generator_term(reconstruction, result.reconstruction.total, share)
        self.optimizer_step(result.loss + adversarial_loss, self.model_optimizers, context)
        discriminator_loss = term.discriminator_term(reconstruction.detach(), images)
        self.optimizer_step(discriminator_loss, {"adam": term.optimizer}, context)

    def _count_usage(self, output: VQVAEOutput, context: StepContext) -> None:
        window = context.step * self.windows_per_epoch // self.steps_per_epoch
        if window != self._window:
            self.synchronize()
            self._window = window
        config = self.config.quantizer
        counts = count_codes(output.quantized.indices, config.num_codes, config.codes_per_vector)
        self._counts += counts.view(self._codes)
        books = self.model.quantizer.books
        may_restart = any(book.restart_every and book.known_step() % book.restart_every == 0 for book in books)
        self.restarts = float(output.quantized.stats["restarts"]) if may_restart else 0.0

    def synchronize(self) -> None:
        """Add the counts of the current window, which a step leaves on the device, to ``usage``."""
        self.usage[self._window] += self.workers.sum(self._counts).cpu().numpy()
        self._counts.zero_()

    def _unquantized_step(self, images: Tensor, context: StepContext, *, logging: bool) -> StepMetrics | None:
        with self.autocast():
            output = self.model.reconstruct_unquantized(images)
            reconstruction = self.criterion(output, images)
        self.optimizer_step(reconstruction.total, self.model_optimizers, context)
        if not logging:
            return None
        loss = float(reconstruction.total.detach())
        values = {
            "loss": loss, "reconstruction_loss": float(reconstruction.pixels.detach()), **reconstruction.term_columns,
            "psnr": float(psnr(output.detach().float(), images).mean()),
        }  # fmt: skip
        return StepMetrics(self.workers.mean(values, self.workers.share(self.items(context))))

    @torch.no_grad()
    def _fit_codes(self, context: StepContext) -> None:
        """Start the codes at vectors of the current encoder, from the first batches of the epoch."""
        tokens_per_image = self.config.grid[0] * self.config.grid[1]
        images_needed = -(-_VECTORS_PER_CODE * self.config.quantizer.num_codes // tokens_per_image)
        batches = -(-images_needed // self.config.optim.batch_size)
        own = [self.model.encoder(images) for images, _ in islice(self.batches(context.epoch, 0), batches)]
        # Batch by batch: the vectors are in the order of one process.
        z_e = [self.workers.gather(vectors) for vectors in own]
        self.model.quantizer.fit_codes(torch.cat(z_e), len(z_e))

    def _frozen_forward(self, images: Tensor) -> VQVAEOutput:
        """The decoder's output with a graph, from an encoder and codes without."""
        with torch.no_grad():
            z_e = self.model.encoder(images)
            quantized = self.model.quantizer(z_e)
        return VQVAEOutput(self.model.decoder(quantized.z_q), z_e, quantized)

    def _schedule_quantizer(self, context: StepContext, *, decoder_only: bool) -> None:
        config, quantizer = self.config.quantizer, self.model.quantizer
        ratio = config.temperature_end / config.temperature
        if isinstance(quantizer, VectorQuantizer):
            quantizer.temperature = config.temperature * ratio**context.progress
        restarting = context.step < config.restart_until * context.total_steps
        for book in quantizer.books:
            book.restart_every = config.restart_every if restarting else 0
        quantizer.train(not decoder_only)

    def _step_metrics(self, images: Tensor, result: PassResult, context: StepContext) -> StepMetrics:
        output, reconstruction, loss, records = result
        stats = {name: float(value) for name, value in output.quantized.stats.items()}
        values = {
            "loss": float(loss.detach()),
            "reconstruction_loss": float(reconstruction.pixels.detach()),
            "vq_loss": float(output.quantized.loss.detach()),
            **reconstruction.term_columns,
            **(self.adversarial.columns if self.adversarial else {}),
            **self.criterion.measure_perceptual_time(output.reconstruction, images),
            "psnr": float(psnr(output.reconstruction.detach().float(), images).mean()),
            **stats,
        }
        values = self.workers.mean(values, self.workers.share(self.items(context)))
        joined = {
            **values, **self._usage_of_batch(output.quantized.indices, stats),
            "perplexity_window": "batch", **(gradient_means(records) if records else {}),
        }  # fmt: skip
        return StepMetrics(joined, gradient_histograms(records) if records else None)

    def _usage_of_batch(self, indices: Tensor, stats: dict[str, float]) -> dict[str, float]:
        """The statistics that are no means over vectors, over those of all processes."""
        if self.workers.size == 1:
            return {}
        places = self.workers.gather(indices.reshape(-1, self.config.quantizer.codes_per_vector)).unbind(dim=1)
        usage = [usage_without_table(place, place >= 0) for place in places]
        num_codes = self.config.quantizer.num_codes
        unused = [float(num_codes - used) for _, used in usage]
        non_finite = self.workers.sum(torch.tensor(stats["non_finite"], device=self.device))
        return {
            "perplexity": sum(float(perplexity) for perplexity, _ in usage) / len(usage),
            "utilisation": 1 - sum(unused) / len(unused) / num_codes,
            "dead_codes": sum(unused),
            "restarts": stats["restarts"],
            "non_finite": float(non_finite),
        }

    def _write_codebook(self, path: Path) -> None:
        epochs = self.usage.reshape(self.epochs, self.windows_per_epoch, *self._codes).sum(axis=1)
        codebooks = cast(VQVAE, self.evaluated_model).quantizer.codebooks.detach().cpu().numpy()
        codebook = codebooks[0] if len(codebooks) == 1 else codebooks
        with path.open("wb") as file:
            np.savez_compressed(file, usage=epochs, windows=self.usage, codebook=codebook)
