"""Values of tensors for text, read only where that needs no device synchronisation."""

from __future__ import annotations

from torch import Tensor


def host_values(tensor: Tensor) -> list[float] | None:
    """Read the values of a CPU tensor; never wait for an accelerator.

    Args:
        tensor: A tensor of any shape, dtype and device, with or without a graph.

    Returns:
        The values in row-major order, or None if they are not in the memory of the host: on an accelerator, on the
        meta device, and for fake tensors and tensors inside ``torch.func.vmap``.

    Example:
        >>> import torch
        >>> host_values(torch.tensor([[1.0, 2.0]])), host_values(torch.ones(2, device="meta"))
        ([1.0, 2.0], None)
    """
    if tensor.device.type != "cpu":
        return None
    try:
        return tensor.detach().flatten().tolist()
    except RuntimeError:
        return None


def scalar_text(tensor: Tensor) -> str:
    """Format a scalar tensor with four significant digits; never wait for an accelerator.

    Args:
        tensor: A tensor with one element.

    Returns:
        The number, or a note in brackets if the value is not in the memory of the host.

    Example:
        >>> import torch
        >>> scalar_text(torch.tensor(0.123456)), scalar_text(torch.tensor(0.0, device="meta"))
        ('0.1235', '(on meta)')
    """
    values = host_values(tensor)
    if values:
        return f"{values[0]:.4g}"
    return "(no value)" if tensor.device.type == "cpu" else f"(on {tensor.device})"
