"""Modules whose state stays in float32 when a model is converted to a narrower dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn


class Float32State(nn.Module):
    """A module whose buffers and parameters move between devices, and to float64, but not to a narrower dtype.

    Example:
        >>> module = Float32State()
        >>> module.register_buffer("counts", torch.zeros(2))
        >>> module.to(torch.bfloat16).counts.dtype, module.to(torch.float64).counts.dtype
        (torch.float32, torch.float64)
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def convert(tensor: Tensor) -> Tensor:
            converted = fn(tensor)
            narrower = tensor.is_floating_point() and converted.dtype in (torch.float16, torch.bfloat16)
            return tensor.to(converted.device) if narrower else converted

        return super()._apply(convert, recurse)
