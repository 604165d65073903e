"""Between the layout of a caller's tensors, (B, D, …) or (…, D) in any memory format, and rows (N, D)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from vqlab.quantize.signatures import with_signature

# Elements of a block of rows: several temporary tensors of it fit into a CPU's last cache.
_CACHED = 1 << 19


def memory_format(tensor: Tensor) -> torch.memory_format:
    """Find the memory format in which a result for a tensor is returned.

    Args:
        tensor: Tensor of any shape.

    Returns:
        ``torch.channels_last`` or ``torch.channels_last_3d`` for tensors of 4 or 5 axes in that format,
        ``torch.contiguous_format`` for all others.

    Example:
        >>> memory_format(torch.zeros(2, 8, 4, 4))
        torch.contiguous_format
    """
    by_axes = {4: torch.channels_last, 5: torch.channels_last_3d}
    last = by_axes.get(tensor.dim())
    if last is None or tensor.is_contiguous() or not tensor.is_contiguous(memory_format=last):
        return torch.contiguous_format
    return last


def is_traced() -> bool:
    """Find out whether a graph is recorded by ``torch.compile``, ``torch.export`` or ``torch.jit.trace``.

    Returns:
        True while a graph is recorded; no value may be read then.

    Example:
        >>> is_traced()
        False
    """
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None


def is_recomputed() -> bool:
    """Find out whether a forward pass runs inside a backward pass, as activation checkpointing repeats it.

    Returns:
        True while a backward pass runs; always False in a compiled graph.

    Example:
        >>> is_recomputed()
        False
    """
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def reads_are_free(tensor: Tensor) -> bool:
    """Find out whether the host can read values of a tensor without a wait for a device.

    Args:
        tensor: Any tensor.

    Returns:
        True on a CPU, outside of recorded graphs and of the transforms of ``torch.func``.

    Example:
        >>> reads_are_free(torch.zeros(1))
        True
    """
    if is_traced() or tensor.device.type != "cpu":
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


class _GradientInFormat(torch.autograd.Function):
    """The identity, whose gradient has a given memory format; the gradient of ``movedim`` has strides of its own."""

    generate_vmap_rule = True

    @staticmethod
    @with_signature
    def forward(tensor: Tensor, layout: torch.memory_format) -> Tensor:
        return tensor.view_as(tensor)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, torch.memory_format], output: Tensor) -> None:
        ctx.layout = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0].contiguous(memory_format=ctx.layout), None


def channels_last(z_e: Tensor, channel_dim: int) -> Tensor:
    """Move the channels to the last axis; the gradient of z_e has z_e's memory format.

    Args:
        z_e: Vectors, (B, D, …) with ``channel_dim=1``, (…, D) with ``channel_dim=-1``.
        channel_dim: Axis of the channels: 1 or −1.

    Returns:
        Vectors, (B, …, D) or (…, D).

    Example:
        >>> channels_last(torch.zeros(2, 8, 4, 5), 1).shape
        torch.Size([2, 4, 5, 8])
    """
    if channel_dim == -1:
        return z_e
    return _GradientInFormat.apply(z_e, memory_format(z_e)).movedim(1, -1)


def channels_back(z_q: Tensor, channel_dim: int, layout: torch.memory_format = torch.contiguous_format) -> Tensor:
    """Move the channels from the last axis back to theirs, in a memory format.

    Args:
        z_q: Vectors, (B, …, D).
        channel_dim: Axis of the channels: 1 or −1.
        layout: Memory format of the result.

    Returns:
        Vectors, (B, D, …) in the format with ``channel_dim=1``, or z_q itself.

    Example:
        >>> channels_back(torch.zeros(2, 4, 5, 8), 1).is_contiguous()
        True
    """
    return z_q if channel_dim == -1 else z_q.movedim(z_q.dim() - 1, 1).contiguous(memory_format=layout)


def without_padding(vectors: Float[Tensor, "*shape D"], mask: Bool[Tensor, " *shape"] | None) -> Tensor:
    """Set padded vectors to 0: they may hold NaN, and 0 · NaN would reach gradients.

    Args:
        vectors: Vectors, (…, D).
        mask: False where a vector is padding, (…). None: no vector is.

    Returns:
        The vectors, (…, D).

    Example:
        >>> without_padding(torch.tensor([[torch.nan], [1.0]]), torch.tensor([False, True])).tolist()
        [[0.0], [1.0]]
    """
    return vectors if mask is None else torch.where(mask[..., None], vectors, 0)


def in_blocks(function: Callable[..., Tensor], *tensors: Shaped[Tensor, "N ..."]) -> Tensor:
    """Apply a function of rows to blocks of rows, so that what it computes on the way stays in a CPU's cache.

    Args:
        function: Function of tensors with n rows whose result has a row for each of them, which depends on it alone.
        *tensors: Tensors of N rows; the first is (N, D).

    Returns:
        The results of all blocks, (N, …).

    Example:
        >>> in_blocks(torch.add, torch.ones(3, 2), torch.ones(3, 2)).shape
        torch.Size([3, 2])
    """
    if is_traced() or tensors[0].device.type != "cpu" or tensors[0].numel() <= _CACHED:
        return function(*tensors)
    size = max(1, _CACHED // tensors[0].shape[1])
    blocks = (function(*parts) for parts in zip(*(tensor.split(size) for tensor in tensors), strict=True))
    if torch.is_grad_enabled():
        return torch.cat(list(blocks))
    first = next(blocks)
    results = first.new_empty((len(tensors[0]), *first.shape[1:]))
    results[:size] = first
    for number, block in enumerate(blocks, start=1):
        results[number * size : (number + 1) * size] = block
    return results


def mean_over(values: Float[Tensor, " N"], rows: Bool[Tensor, " N"]) -> Float[Tensor, ""]:
    """Compute the mean of values over some rows.

    Args:
        values: One value a row, (N,).
        rows: The rows of the mean, True in a mask of (N,).

    Returns:
        Scalar; 0 without rows.

    Example:
        >>> mean_over(torch.tensor([1.0, 5.0, 9.0]), torch.tensor([True, True, False]))
        tensor(3.)
    """
    return torch.where(rows, values, 0).sum() / rows.sum().clamp_min(1)
