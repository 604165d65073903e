"""Optimizers that a Config selects, and the learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vqlab.config import OptimConfig

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


def orthogonalise(matrix: Float[Tensor, "R C"]) -> Float[Tensor, "R C"]:
    """Bring all singular values of a matrix near 1, by five quintic Newton–Schulz iterations, at least in float32.

    X ← aX + (bXXᵀ + c(XXᵀ)²)X with (a, b, c) = (3.4445, −4.7750, 2.0315), from X / ‖X‖: singular values end between
    about 0.7 and 1.2. Source: Jordan et al., Muon: An Optimizer for Hidden Layers in Neural Networks, 2024.

    Args:
        matrix: any matrix, rows R and columns C.

    Returns:
        The iterate, close to UVᵀ of the singular value decomposition USVᵀ.
    """
    x = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
    x = x if len(x) <= x.shape[1] else x.T
    x = x / x.norm().clamp_min(1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if len(matrix) <= matrix.shape[1] else x.T).to(matrix.dtype)


class KernelMuon(torch.optim.Optimizer):
    """Muon for convolution kernels, each seen as a matrix (out, in · height · width).

    m ← μm + (1−μ)g, then w ← w − lr · 0.2·√max(rows, columns) · orthogonalise((1−μ)g + μm), so that the update's root
    mean square is that of Adam. torch.optim.Muon takes matrices only and iterates in bfloat16, which takes 14 times
    as long as float32 on processors without such units. Sources: Jordan et al., Muon: An Optimizer for Hidden Layers
    in Neural Networks, 2024; the factor: Liu et al., Muon is Scalable for LLM Training, 2025.

    Args:
        kernels: weights with at least two axes, the first that of the outputs.
        lr: learning rate, above 0.
        momentum: μ, at least 0 and below 1.
        weight_decay: decoupled weight decay, at least 0.
    """

    def __init__(
        self, kernels: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(kernels, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update the kernels from their gradients.

        Args:
            closure: computes the loss and its gradients anew; None if the gradients are there already.

        Returns:
            What ``closure`` returned, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for kernel in group["params"]:
                if kernel.grad is not None:
                    self._update(kernel, kernel.grad, group)
        return loss

    def _update(self, kernel: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[kernel]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        average = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        matrix = gradient.lerp(average, group["momentum"]).flatten(1)
        scale = 0.2 * max(matrix.shape) ** 0.5
        kernel.mul_(1 - group["lr"] * group["weight_decay"])
        kernel.add_(orthogonalise(matrix).view_as(kernel), alpha=-group["lr"] * scale)


def hidden_kernels(module: nn.Module) -> list[nn.Parameter]:
    """Find the kernels for Muon: those of all convolutions but the first and the last.

    Args:
        module: a network; kernels of transposed convolutions are left out.

    Returns:
        Weights of ``nn.Conv2d`` modules, in the order of the modules.
    """
    convolutions = [part for part in module.modules() if isinstance(part, nn.Conv2d | nn.ConvTranspose2d)]
    return [part.get_parameter("weight") for part in convolutions[1:-1] if isinstance(part, nn.Conv2d)]


def build_optimizers(module: nn.Module, config: OptimConfig) -> dict[str, torch.optim.Optimizer]:
    """Build the optimizers of ``config.optimizer``.

    Args:
        module: the network to train.
        config: the section ``optim`` of a Config.

    Returns:
        By the name that checkpoints use: ``adam`` (Adam or AdamW), and with ``muon`` also ``muon`` for the kernels of
        ``hidden_kernels``; AdamW then trains all other parameters.
    """
    options: dict[str, Any] = {
        "lr": config.learning_rate, "betas": (config.beta1, config.beta2), "weight_decay": config.weight_decay,
    }  # fmt: skip
    if config.optimizer == "adam":
        return {"adam": torch.optim.Adam(module.parameters(), **options)}
    if config.optimizer == "adamw":
        return {"adam": torch.optim.AdamW(module.parameters(), **options)}
    kernels = hidden_kernels(module)
    selected = {id(kernel) for kernel in kernels}
    others = [parameter for parameter in module.parameters() if id(parameter) not in selected]
    # Several times as fast as the loop over parameters; Adam alone keeps that loop, and so its rounding.
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in others)
    return {
        "adam": torch.optim.AdamW(others, fused=fused, **options),
        "muon": KernelMuon(kernels, config.muon_learning_rate, weight_decay=config.weight_decay),
    }


def clear_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Remove the gradients of an optimizer's parameters, as its ``zero_grad`` does, without its hooks and profiling.

    Args:
        optimizer: any optimizer.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


def schedule_factor(config: OptimConfig, step: int, total_steps: int) -> float:
    """Compute the share of the learning rate at a step: a linear warm-up, then ``config.schedule``.

    Args:
        config: ``schedule`` (constant, linear to 0, or half a cosine to 0) and ``warmup``.
        step: number of steps before this one.
        total_steps: number of steps of the whole training.

    Returns:
        The factor of the learning rate, in (0, 1].

    Example:
        >>> [round(schedule_factor(OptimConfig(schedule="linear", warmup=0.5), step, 4), 2) for step in range(4)]
        [0.5, 1.0, 1.0, 0.5]
    """
    warmup_steps = round(config.warmup * total_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    if config.schedule == "linear":
        return 1 - progress
    return 0.5 * (1 + math.cos(math.pi * progress)) if config.schedule == "cosine" else 1.0


def set_learning_rates(optimizers: Mapping[str, torch.optim.Optimizer], factor: float) -> None:
    """Set the learning rate of every parameter group to its first value times a factor.

    Args:
        optimizers: any optimizers, by name.
        factor: as ``schedule_factor`` returns it.
    """
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
