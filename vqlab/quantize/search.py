"""Nearest-code search in chunks: no N×K matrix outlives its chunk."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

# Elements of the distance block: small enough for a CPU's cache, large for a GPU's kernels.
_CPU_BLOCK = 1 << 18
_GPU_BLOCK = 1 << 26
# At least so many rows a block: with fewer, reading a large codebook takes longer than the products.
_MIN_ROWS = 64


def similarities(x: Float[Tensor, "N D"], codes: Float[Tensor, "K D"], distance: str) -> Float[Tensor, "N K"]:
    """Larger is nearer: 2x·c − ‖c‖² (euclidean, up to ‖x‖²) or the cosine."""
    if distance == "cosine":
        return F.normalize(x, dim=1) @ F.normalize(codes, dim=1).T
    return torch.addmm(-codes.square().sum(dim=1), x, codes.T, alpha=2)


def nearest_codes(
    x: Float[Tensor, "N D"], codes: Float[Tensor, "K D"], distance: str = "euclidean"
) -> Int[Tensor, " N"]:
    """Index of the nearest code of every row; the first of equals wins. Float32 or better."""
    if distance == "cosine":
        codes = F.normalize(codes, dim=1)
        bias = torch.zeros(len(codes), dtype=codes.dtype, device=codes.device)
    else:
        bias = -codes.square().sum(dim=1)
    block = _GPU_BLOCK if x.is_cuda else _CPU_BLOCK
    rows = max(_MIN_ROWS, block // len(codes))
    transposed = codes.T
    indices = torch.empty(len(x), dtype=torch.int64, device=x.device)
    for start in range(0, len(x), rows):
        part = torch.addmm(bias, x[start : start + rows], transposed, alpha=2)
        torch.argmax(part, dim=1, out=indices[start : start + rows])
    return indices


def code_sums(
    x: Float[Tensor, "N D"], indices: Int[Tensor, " N"], num_codes: int
) -> tuple[Float[Tensor, " K"], Float[Tensor, "K D"]]:
    """How many rows chose each code, and their sum: one scatter-add, no one-hot matrix."""
    counts = torch.bincount(indices, minlength=num_codes).to(x.dtype)
    sums = torch.zeros(num_codes, x.shape[1], dtype=x.dtype, device=x.device)
    return counts, sums.index_add_(0, indices, x)
