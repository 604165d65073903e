"""Find z_e and z_q among the inputs and outputs of any vector-quantization module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from vqlab.errors import InputError

_WIDTH_NAMES = ("dim", "embedding_dim", "code_dim", "codebook_dim", "vq_embed_dim", "e_dim")
_PREFERRED_NAMES = ("z_q", "quantized", "quantize", "sample", "latents", "last_hidden_state")


def is_vector_tensor(value: Any) -> bool:
    """Check whether a value can hold vectors.

    Args:
        value: Any object.

    Returns:
        True for a floating-point tensor with at least two axes.

    Example:
        >>> import torch
        >>> is_vector_tensor(torch.zeros(2, 3)), is_vector_tensor(torch.zeros(3)), is_vector_tensor("z_e")
        (True, False, False)
    """
    return isinstance(value, Tensor) and value.is_floating_point() and value.dim() >= 2


def find_z_e(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
    """Find the encoder vectors among the arguments of a forward pass.

    Args:
        args: Positional arguments.
        kwargs: Keyword arguments.

    Returns:
        The first floating-point tensor with at least two axes, or None.

    Example:
        >>> import torch
        >>> find_z_e([torch.zeros(3)], {"x": torch.ones(1, 2)})
        tensor([[1., 1.]])
    """
    return next((value for value in [*args, *kwargs.values()] if is_vector_tensor(value)), None)


def find_z_q(output: Any, z_e: Tensor) -> Tensor | None:
    """Find the quantized vectors in the output of a module.

    Args:
        output: A tensor, or tensors in tuples, lists, dicts, named tuples or the attributes of an object.
        z_e: The encoder vectors.

    Returns:
        A floating-point tensor of z_e's shape that is not z_e itself: the first under a usual name such as ``z_q`` or
        ``quantized``, else the first of all; None if there is none.

    Example:
        >>> import torch
        >>> find_z_q({"loss": torch.tensor(0.0), "quantized": torch.ones(1, 2)}, torch.zeros(1, 2))
        tensor([[1., 1.]])
    """
    candidates = [
        (name, value)
        for name, value in _named_tensors(output)
        if is_vector_tensor(value) and value.shape == z_e.shape and value is not z_e
    ]
    preferred = [value for name, value in candidates if name in _PREFERRED_NAMES]
    return next(iter([*preferred, *(value for _, value in candidates)]), None)


def _named_tensors(output: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(output, Tensor):
        yield "", output
    elif isinstance(output, dict):
        for name, value in output.items():
            yield from ((str(name), tensor) for _, tensor in _named_tensors(value))
    elif isinstance(output, Iterable) and not isinstance(output, str | bytes):
        names = getattr(output, "_fields", ())
        for index, value in enumerate(output):
            name = names[index] if index < len(names) else ""
            yield from ((name, tensor) for _, tensor in _named_tensors(value))
    elif hasattr(output, "__dict__"):
        yield from ((name, value) for name, value in vars(output).items() if isinstance(value, Tensor))


def find_channel_dim(module: nn.Module, tensor: Tensor) -> int:
    """Find the axis of the vectors' channels.

    In this order: the integer attribute ``channel_dim`` of the module; −1 for two axes; the only one of the axes 1 and
    −1 that is as long as the module's vectors are wide; the attribute ``channel_last``; 1 for four and more axes.
    The width of the vectors is an integer attribute such as ``dim`` or ``embedding_dim``, or the last axis of a
    parameter or buffer with "code" or "embed" in its name.

    Args:
        module: The vector-quantization module.
        tensor: Its z_e or z_q.

    Returns:
        1 or −1, or the module's own value.

    Raises:
        InputError: if the tensor has three axes and none of this tells which one has the channels.

    Example:
        >>> import torch
        >>> find_channel_dim(nn.Identity(), torch.zeros(2, 8, 4, 4)), find_channel_dim(nn.Identity(), torch.zeros(2, 8))
        (1, -1)
    """
    channel_dim = getattr(module, "channel_dim", None)
    if isinstance(channel_dim, int):
        return channel_dim
    if tensor.dim() == 2:
        return -1
    fitting = [axis for axis in (1, -1) if tensor.shape[axis] in _widths(module)]
    if len(fitting) == 1:
        return fitting[0]
    channel_last = getattr(module, "channel_last", None)
    if isinstance(channel_last, bool):
        return -1 if channel_last else 1
    if tensor.dim() >= 4:
        return 1
    raise InputError(
        f"probe: which axis of {tuple(tensor.shape)} has the channels is not clear from {type(module).__name__}; "
        "give channel_dim=1 for (B, D, T), channel_dim=-1 for (B, T, D)"
    )


def _widths(module: nn.Module) -> set[int]:
    """The numbers of channels that the vectors of a module can have."""
    named = {getattr(module, name, None) for name in _WIDTH_NAMES}
    tensors = [*module.named_parameters(), *module.named_buffers()]
    codes = {
        tensor.shape[-1]
        for name, tensor in tensors
        if tensor.dim() >= 2 and any(part in name.lower() for part in ("code", "embed"))
    }
    return {width for width in named if isinstance(width, int)} | codes
