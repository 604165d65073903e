"""Finds the first step whose loss is not finite, without a wait for the device in each step."""

from __future__ import annotations

import torch
from torch import Tensor

from vqlab.errors import InputError


class FiniteCheck:
    """Remembers on the device which step was the first with a loss that is NaN or infinite.

    Example:
        >>> check = FiniteCheck()
        >>> for step, loss in enumerate([1.0, float("nan"), 2.0]):
        ...     check.observe(torch.tensor(loss), step)
        >>> check.raise_if_diverged()
        Traceback (most recent call last):
        ...
        vqlab.errors.InputError: training diverged: the loss at step 2 is NaN or infinite; lower optim.learning_rate \
or prior.learning_rate, or use optim.precision=fp32; the last checkpoint is kept
    """

    def __init__(self) -> None:
        self._first_step: Tensor | None = None

    def observe(self, loss: Tensor, step: int) -> None:
        """Look at the loss of a step; the host reads no value.

        Args:
            loss: scalar, with or without a graph.
            step: number of the step, from 0.
        """
        if self._first_step is None:
            self._first_step = torch.full((), -1, dtype=torch.int64, device=loss.device)
        is_first = ~loss.detach().isfinite() & (self._first_step < 0)
        self._first_step = torch.where(is_first, step, self._first_step)

    def raise_if_diverged(self) -> None:
        """Read whether a loss was not finite; waits for the device.

        Raises:
            InputError: if a loss was NaN or infinite; the message names the first such step, from 1.
        """
        if self._first_step is not None and int(self._first_step) >= 0:
            raise InputError(
                f"training diverged: the loss at step {int(self._first_step) + 1} is NaN or infinite; lower "
                "optim.learning_rate or prior.learning_rate, or use optim.precision=fp32; the last checkpoint is kept"
            )
