"""The interface between the training loop and a kind of model."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from vqlab.data import batches
from vqlab.data.batches import Batch, seeded_generator
from vqlab.models import build_model
from vqlab.training.finite_check import FiniteCheck
from vqlab.training.loss_scale import LossScale
from vqlab.training.memory_estimate import ImageCounts, check_memory
from vqlab.training.optimizers import clear_gradients, schedule_factor, set_learning_rates
from vqlab.training.run_folder import RunFolder
from vqlab.training.step_guard import StepGuard
from vqlab.training.workers import Workers


@dataclass(frozen=True)
class StepContext:
    """Position of a step in the training.

    Attributes:
        step: number of steps before this one.
        epoch: index of the epoch, from 0.
        total_steps: number of steps of the whole training.
    """

    step: int
    epoch: int
    total_steps: int

    @property
    def progress(self) -> float:
        """Share of the training, 0 at the first step and 1 at the last."""
        return self.step / max(1, self.total_steps - 1)


@dataclass
class StepMetrics:
    """What a step logs.

    Attributes:
        values: columns of a row of ``metrics.jsonl``.
        histograms: counts per bin by name, a row of ``angles.jsonl``; None writes no row.
    """

    values: dict[str, Any]
    histograms: dict[str, list[int]] | None = None


class Recipe(ABC):
    """The objects that train one kind of model, and what a training step does with them.

    The whole state of a training is in ``modules``, ``optimizers`` and ``arrays``, which checkpoints store. The random
    numbers of a step depend on the Config's seed and the step only (``noise_generator``), so a resumed training
    equals an uninterrupted one.

    Args:
        run: the Run to train.
        workers: the processes that train, with the device of this one.
        force: whether a training begins that needs more memory than there is. Default False.

    Attributes:
        run: the Run to train.
        config: the Run's Config.
        workers: the processes that train.
        device: the torch device that trains.
        data: the images.
        model: the model, on the device.
        average: exponential moving average of the weights with decay ``optim.ema``, with the buffers of the model, so
            also its codes; None if ``optim.ema`` is 0.
        modules: ``model``, ``average`` and what else is trained, by the name that checkpoints use.
        optimizers: optimizers by the name that checkpoints use.
        arrays: int64 arrays that training updates in place, by the name that checkpoints use.
        extra_provenance: JSON values that ``provenance.json`` stores besides those of ``collect_provenance``.
        finite_check: what the steps report their losses to, and the loop reads before it logs or saves.
        scaler: scales the loss with ``optim.precision=fp16``.
        guard: takes back steps that are not finite, with ``optim.on_nonfinite=skip``; else None.
    """

    def __init__(self, run: RunFolder, workers: Workers, *, force: bool = False) -> None:
        self.run, self.config, self.workers, self.device = run, run.config, workers, workers.device
        device = self.device
        self.data = run.data()
        if not force:
            check_memory(self.config, device, ImageCounts.of(self.data))
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.arrays: dict[str, np.ndarray] = {}
        self.extra_provenance: dict[str, Any] = {}
        self.finite_check = FiniteCheck()
        self.guard: StepGuard | None = None
        self.model: nn.Module = build_model(self.config, len(self.data.class_names)).to(device)
        decay = self.config.optim.ema if self.config.prior.kind == "none" else 0
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(decay)) if decay else None
        self.modules = {"model": self.model, **({"average": self.average} if self.average else {})}
        self.scaler = LossScale(self.config.optim.precision == "fp16", device)
        self.setup()
        if self.scaler.enabled:
            self.arrays["loss_scale"] = self.scaler.state
        if self.config.optim.on_nonfinite == "skip":
            self.guard = StepGuard(self.modules, self.optimizers, device)
            self.arrays["skipped_steps"] = np.zeros(1, np.int64)

    @abstractmethod
    def setup(self) -> None:
        """Set ``optimizers``, ``arrays``, other ``modules`` and what the steps need; ``model`` is on the device."""

    @abstractmethod
    def step(self, batch: Batch, context: StepContext, *, logging: bool) -> StepMetrics | None:
        """Train on one batch.

        Args:
            batch: images (or code grids, for priors) and labels, on the device.
            context: position of the step in the training.
            logging: whether the step is logged, which costs time.

        Returns:
            What to log; None if ``logging`` is False.
        """

    @abstractmethod
    def epoch_metrics(self) -> dict[str, Any]:
        """Measure the model after an epoch, on held-out data; it is in eval mode, without gradients.

        Returns:
            Columns of a row of ``metrics.jsonl``, kind ``epoch``.
        """

    @property
    def evaluated_model(self) -> nn.Module:
        """The model that is measured and stored at the end: the average of the weights if there is one."""
        return self.model if self.average is None else self.average.module

    def update_average(self) -> None:
        """Add the weights after a step to the average, if there is one."""
        if self.average is not None:
            self.average.update_parameters(self.model)

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return self.config.optim.epochs

    @property
    def batch_size(self) -> int:
        """Items in a step, those of all processes together."""
        return self.config.optim.batch_size

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch; the last may be smaller."""
        return math.ceil(len(self.data.train) / self.batch_size)

    def items(self, context: StepContext) -> int:
        """Count the items of a step.

        Args:
            context: position of the step in the training.

        Returns:
            The items of all processes together.
        """
        return min(self.batch_size, len(self.data.train) - context.step % self.steps_per_epoch * self.batch_size)

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """Iterate over the batches of an epoch.

        Args:
            epoch: index of the epoch, from 0; it decides the order and the crops, together with the Config's seed.
            start: number of batches to skip.

        Yields:
            The part of this process: images (B, C, H, W) in [0, 1] and labels (B,), on the device.
        """
        data = self.config.data
        yield from batches(
            self.data.train, self.config.optim.batch_size, seed=self.config.seed, epoch=epoch, augment=data.augment,
            crop_padding=data.crop_padding, random_crop=data.random_crop, start=start, device=self.device,
            part=self.workers.part,
        )  # fmt: skip

    def synchronize(self) -> None:
        """Bring ``arrays`` up to date with what the steps left on the device; the loop calls it before it saves."""
        return

    def events(self) -> dict[str, dict[str, float]]:
        """Report events of the last step, which are logged at every step.

        Returns:
            Columns of a row of ``metrics.jsonl`` by the kind of the row; empty if nothing happened.
        """
        return {}

    def on_epoch_end(self) -> None:
        """Write files of the Run after an epoch; the default writes none."""
        return

    def autocast(self) -> torch.autocast:
        """Open torch's autocast.

        Returns:
            A context manager: bfloat16 or float16 if ``optim.precision`` says so, else without effect.
        """
        precision = self.config.optim.precision
        dtype = torch.float16 if precision == "fp16" else torch.bfloat16
        return torch.autocast(torch.device(self.device).type, dtype, enabled=precision != "fp32")

    def maybe_compile(self, function: Callable[..., Any]) -> Any:
        """Compile a function if the Config says so.

        Args:
            function: any module or function.

        Returns:
            ``torch.compile(function)`` if ``optim.compile`` is True, else the function.
        """
        return torch.compile(function) if self.config.optim.compile else function

    def build_adam(self, module: nn.Module, **options: Any) -> torch.optim.Adam:
        """Build an Adam optimizer of a module's parameters.

        Args:
            module: the module to train.
            **options: arguments of ``torch.optim.Adam``; ``lr`` defaults to ``optim.learning_rate``.

        Returns:
            The optimizer.
        """
        return torch.optim.Adam(module.parameters(), **{"lr": self.config.optim.learning_rate, **options})

    def noise_generator(self, context: StepContext, *, own: bool = False) -> torch.Generator:
        """Build the random generator of a step.

        Args:
            context: position of the step in the training.
            own: whether it is another one in each process; the main one keeps that of one process. Default False: all
                draw the numbers of the whole batch, and use those of their part.

        Returns:
            A generator on the device, seeded by the Config's seed and the step.
        """
        rank = [self.workers.rank] if own and self.workers.rank else []
        return seeded_generator(self.config.seed, context.step, *rank, device=self.device)

    def schedule_learning_rates(self, context: StepContext) -> None:
        """Set the learning rates of a step: ``optim.warmup`` and ``optim.schedule``.

        Args:
            context: position of the step in the training.
        """
        set_learning_rates(self.optimizers, schedule_factor(self.config.optim, context.step, context.total_steps))

    def optimizer_step(
        self,
        loss: Tensor | Iterable[tuple[Tensor, float]],
        optimizers: Mapping[str, torch.optim.Optimizer],
        context: StepContext,
    ) -> Tensor:
        """Run the backward pass of a loss and one step of its optimizers; ``optim.clip_norm`` limits the gradient.

        Args:
            loss: scalar, with its graph; or the losses of parts of the batch with their shares, which are computed
                one after another.
            optimizers: the optimizers of the parameters to change, by name.
            context: position of the step in the training.

        Returns:
            The loss over the batch of all processes, without a graph.
        """
        for optimizer in optimizers.values():
            clear_gradients(optimizer)
        total = self._backward(loss, self.workers.share(self.items(context)))
        groups = [group for optimizer in optimizers.values() for group in optimizer.param_groups]
        weights = [weight for group in groups for weight in group["params"]]
        total = self.workers.join_gradients(weights, total)
        self.scaler.unscale(optimizers.values())
        self.finite_check.observe(total, context.step)
        if self.guard is not None:
            self.guard.observe(total, weights)
        if self.config.optim.clip_norm:
            nn.utils.clip_grad_norm_(weights, self.config.optim.clip_norm)
        self.scaler.step(optimizers.values())
        return total

    def _backward(self, loss: Tensor | Iterable[tuple[Tensor, float]], share: float) -> Tensor:
        """The backward pass of this process's share of the loss, and that share."""
        if isinstance(loss, Tensor):
            loss = loss if share == 1 else loss * share
            self.scaler.scale(loss).backward()
            return loss.detach()
        total = torch.zeros((), device=self.device)
        for part, part_share in loss:
            self.scaler.scale(part * (part_share * share)).backward()
            total += part.detach() * (part_share * share)
        return total
