"""Whether the fused kernels of ``triton_kernels`` can be used for a tensor."""

from __future__ import annotations

import warnings
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from vqlab.quantize.row_layout import is_traced


def kernels_for(tensor: Tensor) -> ModuleType | None:
    """Find the fused kernels for a tensor.

    The first call on a device compiles the kernels and compares them with plain operations; if they fail or differ,
    a warning says so and they are not used on that device.

    Args:
        tensor: The vectors, (N, D).

    Returns:
        The module ``vqlab.quantize.triton_kernels`` for float32 on CUDA, outside of recorded graphs and the transforms
        of ``torch.func``; otherwise None.

    Example:
        >>> kernels_for(torch.zeros(1, 2)) is None
        True
    """
    if not tensor.is_cuda or is_traced() or tensor.dtype != torch.float32 or not 0 < tensor.shape[1] <= 4096:
        return None
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return None
    return _checked_kernels(tensor.device)


@cache
def _checked_kernels(device: torch.device) -> ModuleType | None:
    try:
        from vqlab.quantize import triton_kernels

        with torch.cuda.device(device), torch.no_grad():
            same = _agree(triton_kernels, device)
    except Exception as error:
        # Anything can fail in a compiler; the plain operations give the same result.
        warnings.warn(
            f"fused kernels on {device}: {type(error).__name__}: {error}; plain operations are used", stacklevel=2
        )
        return None
    if not same:
        warnings.warn(f"fused kernels on {device} differ from plain operations, which are used", stacklevel=2)
    return triton_kernels if same else None


def _agree(kernels: ModuleType, device: torch.device) -> bool:
    generator = torch.Generator().manual_seed(0)
    e, q, g = (torch.randn(100, 24, generator=generator).to(device) for _ in range(3))
    codes = torch.randn(70, 24, generator=generator).to(device)
    indices = kernels.nearest_by_kernel(e, codes)
    nearest = torch.cdist(e.double(), codes.double()).argmin(dim=1)
    found, squares, *_, sums, _ = kernels.assign_by_kernel(e, codes, indices)
    expected_sums = torch.zeros_like(codes).index_add_(0, nearest, e)
    none = torch.zeros(len(e), dtype=torch.bool, device=device)
    grad = kernels.rotation_by_kernel(g, e, q, none)
    # λR e = q and λR q = λ²(2 cos θ · q/λ − e), so these are the scalar products of λRᵀg with e and q. A mirror
    # that moves e to q would bring q to e.
    scale = q.norm(dim=1, keepdim=True) / e.norm(dim=1, keepdim=True)
    turned = scale * (2 * torch.cosine_similarity(e, q)[:, None] * q - scale * e)
    products = torch.stack([(grad * e).sum(dim=1), (grad * q).sum(dim=1)])
    expected = torch.stack([(g * q).sum(dim=1), (g * turned).sum(dim=1)])
    return (
        torch.equal(indices, nearest)
        and torch.equal(found, codes[nearest])
        and torch.allclose(sums, expected_sums, rtol=1e-4, atol=1e-4)
        and torch.allclose(squares, (e - found).square().sum(dim=1), rtol=1e-4)
        and torch.allclose(products, expected, rtol=1e-3, atol=1e-2)
    )
