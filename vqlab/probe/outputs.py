"""Find z_e and z_q among the inputs and outputs of any vector-quantization module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn

_PREFERRED_NAMES = ("z_q", "quantized", "quantize", "sample", "latents", "last_hidden_state")


def is_vectors(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.dim() >= 2


def find_z_q(output: Any, z_e: Tensor) -> Tensor | None:
    """The quantized tensor: of z_e's shape and not z_e itself, by a telling name first."""
    found = [(name, value) for name, value in _tensors(output) if is_vectors(value) and value.shape == z_e.shape]
    other = [(name, value) for name, value in found if value is not z_e]
    named = [value for name, value in other if name in _PREFERRED_NAMES]
    return next(iter([*named, *(value for _, value in other)]), None)


def _tensors(output: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(output, Tensor):
        yield "", output
    elif isinstance(output, dict):
        for name, value in output.items():
            yield from ((str(name), tensor) for _, tensor in _tensors(value))
    elif isinstance(output, Iterable) and not isinstance(output, str | bytes):
        names = getattr(output, "_fields", ())
        for index, value in enumerate(output):
            name = names[index] if index < len(names) else ""
            yield from ((name, tensor) for _, tensor in _tensors(value))
    elif hasattr(output, "__dict__"):
        yield from ((name, value) for name, value in vars(output).items() if isinstance(value, Tensor))


def find_channel_dim(module: nn.Module, tensor: Tensor) -> int:
    own = getattr(module, "channel_dim", None)
    if isinstance(own, int):
        return own
    if tensor.dim() >= 4 or getattr(module, "channel_last", True) is False:
        return 1
    return -1
