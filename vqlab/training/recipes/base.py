"""The contract between the loop and a kind of model."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vqlab.data import batches, load_data
from vqlab.data.batches import Batch, seeded_generator
from vqlab.errors import InputError
from vqlab.losses import Perceptual, reconstruction_loss
from vqlab.models import build_model
from vqlab.training.run_folder import RunFolder


@dataclass(frozen=True)
class StepContext:
    """Where a step stands: steps done before it, its epoch, the last step of the training."""

    step: int
    epoch: int
    last_step: int

    @property
    def share(self) -> float:
        """0 at the first step, 1 at the last."""
        return self.step / max(1, self.last_step - 1)


@dataclass
class StepMetrics:
    """What a logged step has to tell: numbers for metrics.jsonl, histograms for angles.jsonl."""

    row: dict[str, Any]
    angles: dict[str, list[int]] | None = None


class Recipe(ABC):
    """The live objects of one kind of model and what a step does with them.

    All state is in ``model``, ``optimizers`` and ``arrays`` (int64, changed in place), which checkpoints hold;
    ``origin`` is what provenance.json is to tell beside the usual.
    a step's random numbers come from ``noise_generator``, which knows only the Config's seed and the step.
    """

    def __init__(self, run: RunFolder, device: str) -> None:
        self.run, self.config, self.device = run, run.config, device
        self.data = load_data(run.config.data)
        self.optimizers: dict[str, torch.optim.Adam] = {}
        self.arrays: dict[str, np.ndarray] = {}
        self.provenance: dict[str, Any] = {}
        self.model: nn.Module = build_model(self.config, len(self.data.class_names)).to(device)
        self.setup()

    @abstractmethod
    def setup(self) -> None:
        """Set ``optimizers``, ``arrays`` and whatever else the steps need; ``model`` is on the device."""

    @abstractmethod
    def step(self, batch: Batch, context: StepContext, *, logging: bool) -> StepMetrics | None:
        """Train on one batch; a Report if ``logging``. Raises InputError where the loss is no number."""

    @abstractmethod
    def epoch_metrics(self) -> dict[str, Any]:
        """Cheap numbers of the model, in eval mode, after an epoch."""

    @property
    def epochs(self) -> int:
        """Passes over the training items."""
        return self.config.optim.epochs

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass."""
        return math.ceil(len(self.data.train) / self.config.optim.batch_size)

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch from step ``start`` of it on."""
        data = self.config.data
        return batches(
            self.data.train, self.config.optim.batch_size, seed=self.config.seed, epoch=epoch, augment=data.augment,
            crop_padding=data.crop_padding, start=start, device=self.device,
        )  # fmt: skip

    def events(self) -> dict[str, dict[str, float]]:
        """Rows for metrics.jsonl by their kind that the last step leaves, whether it is a logged one or not."""
        return {}

    def on_epoch_end(self) -> None:
        """Write what the Run keeps of an epoch beside its logs: nothing, unless a recipe says otherwise."""
        return

    def autocast(self) -> AbstractContextManager:
        """bf16 where the Config asks for it."""
        return torch.autocast(
            torch.device(self.device).type, torch.bfloat16, enabled=self.config.optim.precision == "bf16"
        )

    def maybe_compile(self, module: nn.Module) -> Any:
        """``module``, through torch.compile where the Config asks for it."""
        return torch.compile(module) if self.config.optim.compile else module

    def build_adam(self, module: nn.Module, **more: Any) -> torch.optim.Adam:
        """Adam over ``module`` at the Config's learning rate."""
        return torch.optim.Adam(module.parameters(), **{"lr": self.config.optim.learning_rate, **more})

    def noise_generator(self, context: StepContext) -> torch.Generator:
        """Random numbers of one step, the same however often training was interrupted before it."""
        return seeded_generator(self.config.seed, context.step, device=self.device)

    def optimizer_step(self, loss: Tensor, optimizer: torch.optim.Adam, context: StepContext) -> None:
        """One step of ``optimizer`` down ``loss``; raises InputError where it is no number."""
        if not bool(loss.isfinite()):
            raise InputError(
                f"training diverged: the loss at step {context.step + 1} is {float(loss.detach())}; lower the learning "
                "rate (optim.learning_rate, prior.learning_rate) or use optim.precision=fp32 "
                "(the last checkpoint is kept)"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


@dataclass
class ReconstructionLoss:
    """A batch's reconstruction term, and the perceptual terms where there are any."""

    pixels: Tensor
    perceptual: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)

    @property
    def total(self) -> Tensor:
        """What the decoder is to lower."""
        return self.pixels + self.perceptual


class ReconstructionCriterion:
    """The terms that compare a reconstruction with its image: pixels, and features where the Config weighs them."""

    def __init__(self, recipe: Recipe) -> None:
        from vqlab.training.perceptual import perceptual_terms

        self.loss = recipe.config.loss
        self.variance = recipe.data.train.variance
        self.perceptual: Perceptual = perceptual_terms(recipe.config, recipe.data, recipe.device)

    def __call__(self, reconstruction: Tensor, images: Tensor) -> ReconstructionLoss:
        """Both terms, with their graph."""
        pixels = reconstruction_loss(reconstruction, images, self.loss, self.variance)
        if not self.perceptual:
            return ReconstructionLoss(pixels, pixels.new_zeros(()))
        return ReconstructionLoss(pixels, *self.perceptual(reconstruction, images))

    def cost(self, reconstruction: Tensor, images: Tensor) -> dict[str, float]:
        """Milliseconds that the perceptual terms take in a step, forward and backward; empty without any."""
        if not self.perceptual:
            return {}
        seen = reconstruction.detach().requires_grad_()
        began = time.perf_counter()
        torch.autograd.grad(self.perceptual(seen, images)[0], seen)
        if seen.is_cuda:
            torch.cuda.synchronize(seen.device)
        return {"perceptual_ms": 1000 * (time.perf_counter() - began)}


def term_columns(terms: dict[str, Tensor]) -> dict[str, float]:
    """The perceptual terms as columns of a row."""
    return {f"{name}_loss": float(value) for name, value in terms.items()}
