"""Finds the first step whose loss is not finite, without a wait for the device in each step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vqlab.errors import WorkError


class FiniteCheck:
    """Remembers on the device which step was the first with a loss that is NaN or infinite, and that loss.

    Example:
        >>> check = FiniteCheck()
        >>> for step, loss in enumerate([1.0, float("nan"), 2.0]):
        ...     check.observe(torch.tensor(loss), step)
        >>> check.raise_if_diverged()
        Traceback (most recent call last):
        ...
        vqlab.errors.WorkError: training diverged: the loss at step 2 is nan; lower optim.learning_rate or \
prior.learning_rate, use optim.precision=fp32, or optim.on_nonfinite=skip; the last checkpoint is kept
    """

    def __init__(self) -> None:
        self._first_step: Tensor | None = None
        self._first_loss: Tensor | None = None

    def observe(self, loss: Tensor, step: int) -> None:
        """Look at the loss of a step; the host reads no value.

        Args:
            loss: scalar, with or without a graph.
            step: number of the step, from 0.
        """
        value = loss.detach()
        if self._first_step is None or self._first_loss is None:
            self._first_step = torch.full((), -1, dtype=torch.int64, device=loss.device)
            self._first_loss = torch.zeros_like(value)
        is_first = ~value.isfinite() & (self._first_step < 0)
        self._first_step = torch.where(is_first, step, self._first_step)
        self._first_loss = torch.where(is_first, value, self._first_loss)

    def raise_if_diverged(self, history: Callable[[], str] = str) -> None:
        """Read whether a loss was not finite; waits for the device.

        Args:
            history: tells what was logged before, for the message; called only if it is raised. Default: nothing.

        Raises:
            WorkError: if a loss was NaN or infinite; the message names the first such step, from 1, and the loss.
        """
        if self._first_step is not None and self._first_loss is not None and int(self._first_step) >= 0:
            step, loss = int(self._first_step) + 1, float(self._first_loss)
            raise WorkError(
                f"training diverged: the loss at step {step} is {loss}{history()}; lower "
                "optim.learning_rate or prior.learning_rate, use optim.precision=fp32, or "
                "optim.on_nonfinite=skip; the last checkpoint is kept"
            )
