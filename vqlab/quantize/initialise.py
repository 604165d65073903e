"""Where a codebook starts: k-means, data, uniform or normal."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vqlab.quantize.search import code_sums, nearest_codes

_ITERATIONS = 10
_JITTER = 1e-3


def sample_rows(x: Float[Tensor, "N D"], count: int, generator: torch.Generator) -> Float[Tensor, "count D"]:
    """``count`` rows of x: without repeats where x has enough, else repeats moved apart by a little noise."""
    order = torch.randperm(len(x), generator=generator, device=generator.device).to(x.device)
    if count <= len(x):
        return x[order[:count]].clone()
    extra = torch.randint(len(x), (count - len(x),), generator=generator, device=generator.device).to(x.device)
    noise = torch.randn(len(extra), x.shape[1], generator=generator, device=generator.device).to(x)
    spread = x.std(dim=0, correction=0).clamp_min(1e-6)
    return torch.cat([x[order], x[extra] + _JITTER * spread * noise])


def kmeans(
    x: Float[Tensor, "N D"], num_codes: int, generator: torch.Generator, distance: str = "euclidean"
) -> tuple[Float[Tensor, "K D"], Float[Tensor, " K"]]:
    """Lloyd's centres and the rows each holds; an empty centre keeps its place. Works with N < K."""
    centres = sample_rows(x, num_codes, generator)
    for _ in range(_ITERATIONS):
        counts, sums = code_sums(x, nearest_codes(x, centres, distance), num_codes)
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], centres)
    counts, _ = code_sums(x, nearest_codes(x, centres, distance), num_codes)
    return centres, counts


def initial_codes(init: str, num_codes: int, dim: int, generator: torch.Generator) -> Float[Tensor, "K D"]:
    """Codes drawn before any data: ``normal`` N(0, 1), else U(−1/K, 1/K) as in van den Oord et al., 2017."""
    if init == "normal":
        return torch.randn(num_codes, dim, generator=generator)
    return (torch.rand(num_codes, dim, generator=generator) * 2 - 1) / num_codes
