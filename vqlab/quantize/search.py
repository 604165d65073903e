"""Nearest-code search in chunks, so that no N×K matrix of all distances is held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vqlab.quantize.floors import FAR
from vqlab.quantize.folded_search import nearest_by_folding
from vqlab.quantize.kernels import kernels_for
from vqlab.quantize.near_ties import Rounding
from vqlab.quantize.row_layout import in_blocks, reads_are_free
from vqlab.quantize.tiled_search import TILE, nearest_of_many_codes
from vqlab.quantize.usage import squared_distances

# Elements of the block of scores: small enough for a CPU's cache, large enough for a GPU's kernels.
_CPU_BLOCK = 1 << 18
_GPU_BLOCK = 1 << 26
# Minimum rows of a block: with fewer, reading a large codebook takes longer than the products.
_MIN_ROWS = 64


def similarities(x: Float[Tensor, "N D"], codes: Float[Tensor, "K D"], distance: str) -> Float[Tensor, "N K"]:
    """Compute the similarity of every row to every code, differentiable and as one N×K matrix.

    For ``"euclidean"`` it is 2x·c − ‖c‖², which is the negative squared distance −‖x−c‖² plus ‖x‖², a constant of
    the row. For ``"cosine"`` it is the cosine of the angle between x and c.

    Args:
        x: Vectors, (N, D).
        codes: The codebook, (K, D), of x's dtype and device.
        distance: ``"euclidean"`` or ``"cosine"``.

    Returns:
        Similarities, (N, K); the largest entry of a row is its nearest code.
    """
    if distance == "cosine":
        return F.normalize(x, dim=1) @ F.normalize(codes, dim=1).T
    return torch.addmm(-codes.square().sum(dim=1), x, codes.T, alpha=2)


def nearest_codes(
    x: Float[Tensor, "N D"], codes: Float[Tensor, "K D"], distance: str = "euclidean", *, exact: bool = True,
    lengths: Float[Tensor, " N"] | None = None,
) -> Int[Tensor, " N"]:  # fmt: skip
    """Find the nearest code of every row: argmin over k of ‖x − c_k‖, or argmax of the cosine.

    Rows are processed in blocks, so the extra memory does not grow with N. Among equally near codes the smallest
    index is returned. The products are in full float32 whatever ``torch.set_float32_matmul_precision`` says.

    Args:
        x: Vectors, (N, D), in float32 or float64.
        codes: The codebook, (K, D), of x's dtype and device.
        distance: ``"euclidean"`` (default) or ``"cosine"``, which ignores the lengths of vectors and codes.
        exact: Find the nearest code in all cases. Default True: distances between vectors far from the origin are
            computed from the mean of the codes, and where the two nearest codes differ by less than the rounding of
            float32, the codes within rounding are compared in float64; the latter not on an accelerator or in a traced
            or compiled graph.
            False leaves near ties to rounding.
        lengths: Lengths of the vectors, if they are known already. Default None.

    Returns:
        Indices of codes, (N,), int64, in 0…K−1.

    Example:
        >>> codes = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
        >>> nearest_codes(torch.tensor([[0.9, 0.8], [0.1, -0.3]]), codes)
        tensor([1, 0])
    """
    if kernels := kernels_for(x):
        return kernels.nearest_by_kernel(x, codes, cosine=distance == "cosine")
    if distance == "cosine":
        centre, table = None, F.normalize(codes, dim=1)
        squares = table.square().sum(dim=1)
        bias = torch.zeros_like(squares)
    else:
        centre = _centre(codes) if exact else None
        table = codes if centre is None else codes - centre
        squares = table.square().sum(dim=1)
        bias = -squares
    with _full_precision():
        if not reads_are_free(x):
            rows_from_centre = (rows if centre is None else rows - centre for rows in _blocks(x, len(codes)))
            return torch.cat([torch.addmm(bias, rows, table.T, alpha=2).argmax(1) for rows in rows_from_centre])
        rounding = None
        # Of float64, equal scores alone are ties.
        if exact and x.dtype == torch.float32:
            lengths = torch.linalg.vector_norm(x, dim=1) if lengths is None else lengths
            rounding = Rounding(lengths, centre, squares, x.shape[1])
        search = nearest_by_folding if len(table) <= TILE else nearest_of_many_codes
        return search(x, codes, centre, table, bias, distance, rounding)


def _blocks(x: Float[Tensor, "N D"], num_codes: int) -> Sequence[Float[Tensor, "n D"]]:
    """The rows in blocks of one product; all in one where a graph is exported, whose number of rows stays open."""
    if torch.compiler.is_exporting():
        return [x]
    return x.split(max(_MIN_ROWS, (_GPU_BLOCK if x.is_cuda else _CPU_BLOCK) // num_codes))


def k_nearest_codes(
    x: Float[Tensor, "N D"], codes: Float[Tensor, "K D"], k: int, distance: str = "euclidean"
) -> tuple[Int[Tensor, "N k"], Float[Tensor, "N k"]]:
    """Find the k nearest codes of every row and their distances, in blocks as ``nearest_codes``.

    Args:
        x: Vectors, (N, D), in float32 or float64.
        codes: The codebook, (K, D), of x's dtype and device.
        k: Number of codes for each row, in 1…K.
        distance: ``"euclidean"`` (default), with the distance ‖x − c‖, or ``"cosine"``, with 1 − cos.

    Returns:
        Indices of codes, int64, and distances, (N, k) each, nearest first.

    Example:
        >>> codes = torch.tensor([[0.0, 0.0], [1.0, 1.0], [3.0, 4.0]])
        >>> k_nearest_codes(torch.zeros(1, 2), codes, 3)[1]
        tensor([[0.0000, 1.4142, 5.0000]])
    """
    if distance == "cosine":
        x, codes = F.normalize(x, dim=1), F.normalize(codes, dim=1)
    centre = _centre(codes)
    from_centre = (lambda rows: rows) if centre is None else (lambda rows: rows - centre)
    table = from_centre(codes)
    found = [similarities(from_centre(rows), table, "euclidean").topk(k).indices for rows in _blocks(x, len(codes))]
    indices = torch.cat(found)
    distances = torch.linalg.vector_norm(x[:, None] - codes[indices], dim=2)
    # Of unit vectors, 1 − cos is half of the squared distance.
    return indices, distances.square() / 2 if distance == "cosine" else distances


def _centre(codes: Float[Tensor, "K D"]) -> Float[Tensor, " D"] | None:
    """The mean of the codes if it is far from the origin, otherwise 0 or None, which change no bit of a distance."""
    mean = codes.mean(dim=0)
    far = mean.dot(mean) > FAR / len(codes) * torch.linalg.vector_norm(codes - mean).square()
    if reads_are_free(codes):
        return mean if far else None
    return torch.where(far, mean, 0)


@contextmanager
def _full_precision() -> Iterator[None]:
    """No TF32 and no bfloat16 inside float32 products; a compiled graph keeps the precision of its compilation."""
    if torch.compiler.is_compiling() or torch.get_float32_matmul_precision() == "highest":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def look_up(
    e: Float[Tensor, "N D"], codes: Float[Tensor, "K D"], indices: Int[Tensor, " N"]
) -> tuple[Float[Tensor, "N D"], Float[Tensor, " N"]]:
    """Look up the codes of vectors, and compute their squared distances.

    Args:
        e: Vectors, (N, D).
        codes: The codes, (K, D); the result has a path for their gradient.
        indices: Index of the code of each vector, (N,), in 0…K−1.

    Returns:
        The codes q, (N, D), and ‖e − q‖², (N,), without a graph.

    Example:
        >>> look_up(torch.zeros(1, 2), torch.tensor([[1.0, 1.0], [3.0, 4.0]]), torch.tensor([1]))[1]
        tensor([25.])
    """
    q = F.embedding(indices, codes)
    return q, in_blocks(squared_distances, e.detach(), q.detach())


def counts_and_sums(
    x: Float[Tensor, "N D"], indices: Int[Tensor, " N"], num_codes: int, rows: Bool[Tensor, " N"] | None = None
) -> tuple[Float[Tensor, " K"], Float[Tensor, "K D"]]:
    """Count the rows assigned to each code and add them up, with one scatter-add and no one-hot matrix.

    Args:
        x: Vectors, (N, D).
        indices: Index of the code of each row, (N,), int64, in 0…K−1.
        num_codes: K, the number of codes.
        rows: True, in a mask of (N,), for rows that count. Default None: all rows.

    Returns:
        The number of rows of each code, (K,), and their sum, (K, D), both of x's dtype; 0 for codes without a row.

    Example:
        >>> counts, sums = counts_and_sums(torch.tensor([[1.0], [2.0], [5.0]]), torch.tensor([0, 0, 2]), 3)
        >>> counts.tolist(), sums.tolist()
        ([2.0, 0.0, 1.0], [[3.0], [0.0], [5.0]])
    """
    # Rows that do not count go to a place of their own: they may hold NaN, and 0 · NaN would reach the sums.
    slots = indices if rows is None else torch.where(rows, indices, num_codes)
    counts = torch.zeros(num_codes + 1, dtype=x.dtype, device=x.device)
    counts.scatter_add_(0, slots, torch.ones_like(slots, dtype=x.dtype))
    sums = torch.zeros(num_codes + 1, x.shape[1], dtype=x.dtype, device=x.device)
    return counts[:num_codes], sums.index_add_(0, slots, x)[:num_codes]
