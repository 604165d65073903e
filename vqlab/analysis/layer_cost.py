"""Cost of the quantizer by codebook size: time and memory of one training step of the layer alone."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import TYPE_CHECKING

import torch

from vqlab.quantize import VectorQuantizer
from vqlab.training.device import find_device
from vqlab.training.memory import peak_memory_mib, reset_peak_memory

if TYPE_CHECKING:
    import pandas as pd

CODEBOOK_SIZES = (1024, 4096, 16_384, 65_536)


def layer_cost(
    sizes: Sequence[int] = CODEBOOK_SIZES,
    dim: int = 64,
    tokens: int = 8192,
    repeats: int = 3,
    device: str | None = None,
) -> pd.DataFrame:
    """Measure a training step of the quantizer: forward, backward and EMA update of random float32 vectors.

    Args:
        sizes: numbers of codes K.
        dim: dimension D of the vectors and codes.
        tokens: number of vectors N in a step.
        repeats: measured steps for each size.
        device: ``cpu`` or ``cuda``; None uses CUDA where available.

    Returns:
        One row for each size with the columns ``K``, ``D``, ``tokens``, ``ms`` (median time of a step, milliseconds),
        ``mib`` (peak memory of a step above the memory before it, MiB: allocated on CUDA, resident on CPU; None if
        it cannot be read), ``matrix_mib`` (size of an N × K matrix of distances, for comparison) and ``codebook_mib``
        (size of the codes).
    """
    import pandas as pd

    device = find_device(device)
    # The first step of a process loads libraries, which would count as cost of the smallest codebook.
    _measure_size(sizes[0], dim, tokens, 1, device)
    return pd.DataFrame([_measure_size(size, dim, tokens, repeats, device) for size in sizes])


def _measure_size(num_codes: int, dim: int, tokens: int, repeats: int, device: str) -> dict[str, float | None]:
    layer = VectorQuantizer(num_codes, dim, init="normal", restart_every=0, channel_dim=-1).to(device)
    generator = torch.Generator().manual_seed(0)
    z_e = torch.randn(tokens, dim, generator=generator).to(device).requires_grad_()
    times: list[float] = []
    memory = step_memory_mib(lambda: times.extend(_time_step(layer, z_e, device) for _ in range(repeats)), device)
    return {
        "K": num_codes,
        "D": dim,
        "tokens": tokens,
        "ms": median(times),
        "mib": memory,
        "matrix_mib": tokens * num_codes * 4 / 2**20,
        "codebook_mib": num_codes * dim * 4 / 2**20,
    }


def step_memory_mib(step: Callable[[], object], device: str) -> float | None:
    """Measure the peak memory of a step above the memory before it.

    Args:
        step: Function that does the step.
        device: ``cpu``, where the memory is the resident memory of the process, or ``cuda``, where it is what the
            step allocates.

    Returns:
        MiB, or None if it cannot be read.
    """
    before = _current_memory_mib(device)
    step()
    peak = peak_memory_mib(device)
    return None if peak is None or before is None else max(0.0, peak - before)


def _current_memory_mib(device: str) -> float | None:
    """Memory in use, after freed memory was returned to the system; the peak is reset to it."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    reset_peak_memory(device)
    return peak_memory_mib(device)


def _time_step(layer: VectorQuantizer, z_e: torch.Tensor, device: str) -> float:
    """Milliseconds of one training step."""
    z_e.grad = None
    start = time.perf_counter()
    out = layer(z_e)
    (out.z_q.square().mean() + out.loss).backward()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)
