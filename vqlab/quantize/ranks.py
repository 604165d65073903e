"""Sums over the ranks of torch.distributed; with one process they are the values themselves."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.autograd.function import FunctionCtx


def is_distributed() -> bool:
    """Find out whether several ranks train together.

    Returns:
        True with an initialised process group of more than one rank.

    Example:
        >>> is_distributed()
        False
    """
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def sum_over_ranks(values: Tensor) -> Tensor:
    """Add up the values of all ranks.

    Args:
        values: Values of this rank, of one shape on all ranks; they are not changed.

    Returns:
        The sums, without a graph.

    Example:
        >>> sum_over_ranks(torch.ones(2))
        tensor([1., 1.])
    """
    total = values.detach()
    if is_distributed():
        total = total.clone()
        dist.all_reduce(total)
    return total


def sum_over_ranks_with_graph(values: Tensor) -> Tensor:
    """Add up the values of all ranks; the gradient of the sum is the sum of its gradients on all ranks.

    Args:
        values: Values of this rank, of one shape on all ranks.

    Returns:
        The sums, with their graph.

    Example:
        >>> sum_over_ranks_with_graph(torch.ones(2))
        tensor([1., 1.])
    """
    return _SumOverRanks.apply(values) if is_distributed() else values


class _SumOverRanks(torch.autograd.Function):
    """All-reduce forward and backward: each rank's loss depends on the values of all."""

    @staticmethod
    def forward(_: FunctionCtx, values: Tensor) -> Tensor:
        return sum_over_ranks(values)

    @staticmethod
    def backward(_: FunctionCtx, gradient: Tensor) -> Tensor:
        return sum_over_ranks(gradient)


def logsumexp_over_ranks(values: Float[Tensor, "N K"]) -> Float[Tensor, " K"]:
    """Compute the logarithm of the sum of exponentials over the rows of all ranks.

    Args:
        values: Values of this rank, (N, K); ranks may hold different numbers of rows.

    Returns:
        log Σₙ exp(valuesₙ), (K,), without a graph; −∞ without a row.

    Example:
        >>> logsumexp_over_ranks(torch.zeros(4, 1)).exp()
        tensor([4.])
    """
    own = torch.logsumexp(values.detach(), dim=0)
    if not is_distributed():
        return own
    largest = own.clone()
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    shift = torch.where(largest.isfinite(), largest, 0)
    return sum_over_ranks((own - shift).exp()).log() + shift


def smallest_over_ranks(keys: Float[Tensor, " K"], values: Float[Tensor, "K C"]) -> Float[Tensor, "K C"]:
    """Take each row from the rank where its key is smallest.

    Args:
        keys: Keys of this rank, (K,).
        values: Rows of this rank, (K, C).

    Returns:
        The rows with the smallest keys, (K, C); of equal keys, that of the lowest rank.

    Example:
        >>> smallest_over_ranks(torch.zeros(1), torch.ones(1, 2))
        tensor([[1., 1.]])
    """
    if not is_distributed():
        return values
    own = torch.cat([keys[:, None].to(values.dtype), values], dim=1)
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own)
    joined = torch.stack(parts)
    rank = joined[:, :, 0].argmin(dim=0)
    return joined[rank, torch.arange(len(keys), device=keys.device), 1:]


def mean_over_ranks(mean: Tensor, count: Tensor) -> Tensor:
    """Replace the mean over this rank's rows by that over the rows of all ranks, for losses that are no mean of rows.

    Args:
        mean: Mean over the rows of this rank, of one shape on all ranks.
        count: Number of these rows, a scalar.

    Returns:
        The mean over all rows, with the gradient of this rank's mean: the gradients of the ranks, weighted by their
        shares of the rows, add up to that of the joined rows.

    Example:
        >>> mean_over_ranks(torch.tensor([2.0]), torch.tensor(3))
        tensor([2.])
    """
    if not is_distributed():
        return mean
    weight = count.to(mean.dtype)
    joined = sum_over_ranks(mean * weight) / sum_over_ranks(weight).clamp_min(1)
    return mean + (joined - mean).detach()


def gather_rows(rows: Shaped[Tensor, "N ..."]) -> Shaped[Tensor, "M ..."]:
    """Join the rows of all ranks.

    Args:
        rows: Rows of this rank, (N, …); ranks may hold different numbers of rows.

    Returns:
        The rows in rank order, without a graph.

    Example:
        >>> gather_rows(torch.arange(3))
        tensor([0, 1, 2])
    """
    if not is_distributed():
        return rows
    sizes = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, torch.tensor([len(rows)], device=rows.device))
    lengths = [int(size) for size in sizes]
    flat = rows.detach().reshape(len(rows), -1)
    padded = F.pad(flat, (0, 0, 0, max(lengths) - len(rows)))
    parts = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(parts, padded)
    joined = torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])
    return joined.reshape(-1, *rows.shape[1:])
