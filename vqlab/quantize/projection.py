"""The linear layers around a codebook of lower dimension, in the precision of the vectors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def projections(dim: int, code_channels: int | None) -> tuple[nn.Module, nn.Module]:
    """Create the projections into the space of the codes and back.

    Args:
        dim: Channels of z_e.
        code_channels: Channels of the codes of a vector. None: no projections.

    Returns:
        Linear layers, or identities without projections.

    Example:
        >>> projections(8, None)
        (Identity(), Identity())
    """
    if code_channels is None:
        return nn.Identity(), nn.Identity()
    return nn.Linear(dim, code_channels), nn.Linear(code_channels, dim)


def project(projection: nn.Module, vectors: Float[Tensor, "*rows D"]) -> Tensor:
    """Apply a projection in the dtype of the vectors, whatever the dtype of its parameters.

    Args:
        projection: A linear layer or an identity.
        vectors: Vectors, (…, D).

    Returns:
        The projected vectors, of their dtype.

    Example:
        >>> project(nn.Linear(4, 2).bfloat16(), torch.zeros(3, 4)).dtype
        torch.float32
    """
    if not isinstance(projection, nn.Linear) or projection.weight.dtype == vectors.dtype:
        return projection(vectors)
    return F.linear(vectors, projection.weight.to(vectors.dtype), projection.bias.to(vectors.dtype))


def working_dtype(vectors: Tensor, codes: Tensor) -> torch.dtype:
    """Find the dtype of a quantizer's computation: float32, or float64 if vectors or codes are.

    Args:
        vectors: Encoder vectors.
        codes: The codes.

    Returns:
        The dtype.

    Example:
        >>> working_dtype(torch.zeros(1).half(), torch.zeros(1))
        torch.float32
    """
    return torch.promote_types(torch.promote_types(vectors.dtype, codes.dtype), torch.float32)
