"""The scale of the loss in float16, whose gradients would otherwise be rounded to 0."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor


class LossScale:
    """``torch.amp.GradScaler`` whose state is an array of integers, as checkpoints store it; or no scale.

    The scale is a power of two: it is halved in a step whose gradients are not finite, which is left out, and doubled
    after 2,000 steps without one (Micikevicius et al., Mixed Precision Training, 2018).

    Args:
        enabled: whether the loss is scaled; without, losses and gradients are left as they are.
        device: the torch device that trains.

    Attributes:
        enabled: whether the loss is scaled.
        state: log₂ of the scale and the number of steps since it changed, int64 (2,); see ``store`` and ``restore``.

    Example:
        >>> scale = LossScale(True, "cpu")
        >>> float(scale.scale(torch.ones(()))), scale.state.tolist()
        (65536.0, [16, 0])
    """

    def __init__(self, enabled: bool, device: str) -> None:
        self.enabled = enabled
        self.state = np.array([16, 0], np.int64)
        self._scaler = torch.amp.GradScaler(torch.device(device).type, enabled=enabled)

    @property
    def factor(self) -> float:
        """The scale, 1 if it is not enabled; waits for the device."""
        return self._scaler.get_scale()

    def store(self) -> None:
        """Write ``state``; waits for the device."""
        if self.enabled:
            values = self._scaler.state_dict()
            self.state[:] = round(math.log2(values["scale"])), values["_growth_tracker"]

    def restore(self) -> None:
        """Use the values in ``state``."""
        if self.enabled:
            scale, steps = 2.0 ** int(self.state[0]), int(self.state[1])
            self._scaler.load_state_dict({**self._scaler.state_dict(), "scale": scale, "_growth_tracker": steps})

    def scale(self, loss: Tensor) -> Tensor:
        """Multiply a loss by the scale.

        Args:
            loss: scalar.

        Returns:
            The loss times the scale; the loss itself if it is not enabled.
        """
        return self._scaler.scale(loss)

    def unscale(self, optimizers: Iterable[torch.optim.Optimizer]) -> None:
        """Divide the gradients of the weights by the scale.

        Args:
            optimizers: those of the step.
        """
        for optimizer in optimizers if self.enabled else ():
            self._scaler.unscale_(optimizer)

    def step(self, optimizers: Iterable[torch.optim.Optimizer]) -> None:
        """Do a step of each optimizer; none if it is enabled and a gradient of its weights is not finite.

        Args:
            optimizers: those of the step.
        """
        for optimizer in optimizers:
            self._scaler.step(optimizer)
        self._scaler.update()
