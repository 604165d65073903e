"""Takes back the steps whose loss or gradient is not finite (``optim.on_nonfinite=skip``), without a wait."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn


class StepGuard:
    """Keeps the floating-point state of a training before each step, and restores it if the step was not finite.

    The choice is made on the device, so the host reads nothing. It costs a copy of all weights, codes and moments in
    each step. Counters go on: the number of steps of a codebook, and on CUDA that of Adam, which the host keeps.

    Args:
        modules: all that is trained, by name.
        optimizers: all optimizers, by name.
        device: the torch device that trains.

    Attributes:
        skipped: number of steps that were taken back, int64 scalar on the device.

    Example:
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> optimizer = torch.optim.Adam(layer.parameters())
        >>> guard, before = StepGuard({"layer": layer}, {"adam": optimizer}, "cpu"), layer.weight.item()
        >>> guard.start()
        >>> loss = layer(torch.full((1, 1), float("nan"))).sum()
        >>> loss.backward()
        >>> guard.observe(loss, layer.parameters())
        >>> optimizer.step()
        >>> guard.finish()
        >>> layer.weight.item() == before, int(guard.skipped)
        (True, 1)
    """

    def __init__(
        self, modules: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer], device: str
    ) -> None:
        self._modules, self._optimizers = modules, optimizers
        self.skipped = torch.zeros((), dtype=torch.int64, device=device)
        self._finite = torch.ones((), dtype=torch.bool, device=device)
        self._before: dict[object, Tensor] = {}

    def start(self) -> None:
        """Keep the state before a step."""
        self._finite.fill_(True)
        self._before = {key: tensor.detach().clone() for key, tensor in self._tensors()}

    def observe(self, loss: Tensor, weights: Iterable[nn.Parameter]) -> None:
        """Look at a loss of the step and at its gradients, after the backward pass.

        Args:
            loss: scalar.
            weights: the parameters that the loss changes.
        """
        norms = torch._foreach_norm([weight.grad for weight in weights if weight.grad is not None])
        self._finite &= loss.detach().isfinite() & torch.stack(norms).isfinite().all()

    @torch.no_grad()
    def finish(self) -> None:
        """Restore the state before the step if it was not finite; what the step created becomes 0."""
        for key, tensor in self._tensors():
            before = self._before.get(key)
            tensor.copy_(torch.where(self._finite, tensor, torch.zeros_like(tensor) if before is None else before))
        self.skipped += ~self._finite
        self._before = {}

    def _tensors(self) -> Iterator[tuple[object, Tensor]]:
        for name, module in self._modules.items():
            for key, tensor in module.state_dict().items():
                if tensor.is_floating_point():
                    yield (name, key), tensor
        for name, optimizer in self._optimizers.items():
            for parameter, state in optimizer.state.items():
                for key, value in state.items():
                    on_device = isinstance(value, Tensor) and value.device.type == self._finite.device.type
                    if on_device and value.is_floating_point():
                        yield (name, id(parameter), key), value
