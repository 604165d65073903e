"""The layer's training step beside another package's, and beside the plain operations of any such layer."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vqlab.analysis.layer_cost import step_memory_mib
from vqlab.quantize import VectorQuantizer
from vqlab.training.device import describe_hardware, find_device

if TYPE_CHECKING:
    import pandas as pd

PEER = "vector-quantize-pytorch"
# A block of scores of this many elements stays in a CPU's cache.
_BLOCK = 1 << 18


class LayerSize(NamedTuple):
    """Sizes of one comparison.

    Attributes:
        num_codes: K.
        dim: D, channels of vectors and codes.
        vectors: N, vectors of a step.
    """

    num_codes: int
    dim: int
    vectors: int = 8192


SIZES = (
    *(LayerSize(num_codes, 64) for num_codes in (512, 1024, 4096, 16_384)),
    LayerSize(1024, 256),
    LayerSize(1024, 8),
)
COLUMNS = {
    "threads": "threads",
    "num_codes": "K",
    "dim": "D",
    "vectors": "N",
    "ms": "vqlab (ms)",
    "peer_ms": f"{PEER} (ms)",
    "floor_ms": "floor (ms)",
    "peer_ratio": f"{PEER} / vqlab",
    "floor_ratio": "vqlab / floor",
    "mib": "memory of a step (MiB)",
    "peer_mib": f"{PEER}, memory (MiB)",
}
Step = Callable[[], object]


def benchmark_layer(
    sizes: Iterable[LayerSize] = SIZES, threads: Sequence[int] = (1, 2), rounds: int = 7, device: str | None = None
) -> pd.DataFrame:
    """Time forward, backward and update of the rotation trick with an EMA codebook, and measure their memory.

    Each round does one step of vqlab, one of vector-quantize-pytorch, if it is installed (rotation, k-means
    initialisation, decay 0.99, dead codes replaced), and one of the floor: the products of all vectors with all codes
    with their argmax, in blocks, the lookup of the codes, and the sums of the vectors of each code. All take the same
    random vectors, in float32. A time is the median over rounds, a ratio that of two times of one round, again the
    median.

    Args:
        sizes: Sizes to compare.
        threads: Numbers of threads, one after the other; on CUDA, only the first counts.
        rounds: Rounds of each comparison, at least 1, after one that is not counted.
        device: ``cpu``, ``cuda``, …; None uses CUDA where available.

    Returns:
        One row for each number of threads and size, with the columns of ``COLUMNS``; milliseconds and MiB. The memory
        is that of ``step_memory_mib``. NaN without the other package.
    """
    import pandas as pd

    device = find_device(device)
    _free_a_large_block()
    counts = threads if device == "cpu" else threads[:1]
    return pd.DataFrame([_compare(size, count, rounds, device) for count in counts for size in sizes])


def benchmark_versions() -> str:
    """Describe what a benchmark ran on.

    Returns:
        Versions of the packages and of Python, processor and accelerator, in one line.
    """
    versions = [
        f"{name} {importlib.metadata.version(name)}" for name in ("vqlab", "torch", PEER) if _is_installed(name)
    ]
    devices = [describe_hardware("cpu")["processor"], *_accelerators()]
    return ", ".join([*versions, f"Python {platform.python_version()}", *devices])


def _free_a_large_block() -> None:
    """Bring the allocator into its state in a training.

    The C library returns memory above twice the largest block that was freed; any training has freed large ones. In a
    new process the steps would be compared by the page faults of their first large tensors.
    """
    torch.zeros(7 << 20)


def _accelerators() -> list[str]:
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name.replace("-", "_")) is not None


def _compare(size: LayerSize, threads: int, rounds: int, device: str) -> dict[str, Any]:
    steps = {"ours": _our_step(size, device), "floor": _floor_step(size, device)}
    if _is_installed(PEER):
        steps["peer"] = _peer_step(size, device)
    with _threads(threads):
        for step in steps.values():
            step()
        measured = [{name: _milliseconds(step, device) for name, step in steps.items()} for _ in range(rounds)]
        memory = {name: step_memory_mib(steps[name], device) for name in steps if name != "floor"}
    times = {name: median(times[name] for times in measured) for name in steps}
    peer = "peer" in steps
    return {
        "threads": threads,
        **size._asdict(),
        "ms": times["ours"],
        "peer_ms": times["peer"] if peer else float("nan"),
        "floor_ms": times["floor"],
        "peer_ratio": median(times["peer"] / times["ours"] for times in measured) if peer else float("nan"),
        "floor_ratio": median(times["ours"] / times["floor"] for times in measured),
        "mib": memory["ours"],
        "peer_mib": memory.get("peer", float("nan")),
    }


def _vectors(size: LayerSize, device: str) -> Tensor:
    return torch.randn(1, size.vectors, size.dim, generator=torch.Generator().manual_seed(0)).to(device)


def _our_step(size: LayerSize, device: str) -> Step:
    layer = VectorQuantizer(size.num_codes, size.dim, channel_dim=-1).to(device)
    z_e, gradient = _vectors(size, device).requires_grad_(), _vectors(size, device)

    def step() -> None:
        z_e.grad = None
        out = layer(z_e)
        torch.autograd.backward([out.z_q, out.loss], [gradient, None])

    return step


def _peer_step(size: LayerSize, device: str) -> Step:
    from vector_quantize_pytorch import VectorQuantize

    layer = VectorQuantize(
        dim=size.dim, codebook_size=size.num_codes, rotation_trick=True, kmeans_init=True, decay=0.99,
        threshold_ema_dead_code=2,
    ).to(device)  # fmt: skip
    z_e, gradient = _vectors(size, device).requires_grad_(), _vectors(size, device)

    def step() -> None:
        z_e.grad = None
        z_q, _, loss = layer(z_e)
        torch.autograd.backward([z_q, loss.sum()], [gradient, None])

    return step


def _floor_step(size: LayerSize, device: str) -> Step:
    rows = _vectors(size, device).reshape(-1, size.dim)
    codes = rows[torch.arange(size.num_codes, device=device) % len(rows)].clone()
    bias, ones = -codes.square().sum(dim=1), torch.ones(len(rows), device=device)
    blocks = rows.split(max(64, _BLOCK // size.num_codes) if device == "cpu" else len(rows))

    def step() -> None:
        indices = torch.cat([torch.addmm(bias, block, codes.T, alpha=2).argmax(dim=1) for block in blocks])
        F.embedding(indices, codes)
        torch.zeros_like(bias).scatter_add_(0, indices, ones)
        torch.zeros_like(codes).index_add_(0, indices, rows)

    return step


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _milliseconds(step: Step, device: str) -> float:
    _wait(device)
    start = time.perf_counter()
    step()
    _wait(device)
    return 1000 * (time.perf_counter() - start)


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
