"""How the quantizer's cost grows with the codebook: time and memory of one training step of the layer alone."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import time
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

import torch

from vqlab.quantize import VectorQuantizer
from vqlab.training.device import find_device
from vqlab.training.memory import peak_memory_mib, reset_peak_memory

if TYPE_CHECKING:
    import pandas as pd

SIZES = (1024, 4096, 16_384, 65_536)


def layer_cost(
    sizes: Sequence[int] = SIZES, dim: int = 64, tokens: int = 8192, repeats: int = 3, device: str | None = None
) -> pd.DataFrame:
    """A row for each K: ms (median of ``repeats`` steps), mib, matrix_mib, codebook_mib.

    A step is forward, backward and the EMA update of ``tokens`` vectors of ``dim`` channels, float32. mib: peak
    memory over what was held before the step (allocated on CUDA; on CPU resident, None where it cannot be
    read). matrix_mib: what all N×K distances would take. codebook_mib: the codes, K×D. Device: found unless named.
    """
    import pandas as pd

    device = find_device(device)
    # The first step of a process loads libraries, which would be taken for the smallest codebook's cost.
    _cost(sizes[0], dim, tokens, 1, device)
    return pd.DataFrame([_cost(size, dim, tokens, repeats, device) for size in sizes])


def _cost(num_codes: int, dim: int, tokens: int, repeats: int, device: str) -> dict[str, float | None]:
    layer = VectorQuantizer(num_codes, dim, init="normal", restart_every=0, channel_dim=-1).to(device)
    generator = torch.Generator().manual_seed(0)
    z_e = torch.randn(tokens, dim, generator=generator).to(device).requires_grad_()
    held = _validated(device)
    times = [_milliseconds(layer, z_e, device) for _ in range(repeats)]
    peak = peak_memory_mib(device)
    return {
        "K": num_codes,
        "D": dim,
        "tokens": tokens,
        "ms": median(times),
        "mib": None if peak is None or held is None else max(0.0, peak - held),
        "matrix_mib": tokens * num_codes * 4 / 2**20,
        "codebook_mib": num_codes * dim * 4 / 2**20,
    }


def _validated(device: str) -> float | None:
    """MiB held now, after giving freed memory back, so that the next peak is the step's own."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    reset_peak_memory(device)
    return peak_memory_mib(device)


def _milliseconds(layer: VectorQuantizer, z_e: torch.Tensor, device: str) -> float:
    z_e.grad = None
    began = time.perf_counter()
    out = layer(z_e)
    (out.z_q.square().mean() + out.loss).backward()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - began)
