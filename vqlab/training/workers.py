"""The processes that train one Run together: who they are, and what they exchange."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor, nn

from vqlab.errors import InputError
from vqlab.quantize.ranks import gather_rows, is_distributed
from vqlab.training.device import find_device

# Of `vqlab train --processes`: the file in which its processes find each other, without a port.
RENDEZVOUS = "VQLAB_RENDEZVOUS"
# One process may wait for another program that trains the same Run. A process that ends is noticed at once.
_TIMEOUT = timedelta(days=7)
# What a launcher sets beside WORLD_SIZE.
_VARIABLES = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")

Value = TypeVar("Value")


@dataclass(frozen=True)
class Workers:
    """The processes that train one Run together, as one of them sees them.

    Each process computes on a part of every batch. What they exchange makes them equal to one process on the joined
    batch: gradients and codebook statistics are summed, the main process alone writes files.

    Attributes:
        rank: number of this process, from 0; 0 is the main one.
        size: number of processes.
        device: the torch device of this process.
        control: process group for flags of the host, so that no process waits for its accelerator; None if it is the
            default group.

    Example:
        >>> alone = Workers()
        >>> alone.part(8), alone.agree(0, 2), alone.broadcast("value")
        (slice(0, 8, None), [0, 2], 'value')
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"
    control: Any = field(default=None, repr=False, compare=False)

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files of the Run."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """Select the part of this process.

        Args:
            count: number of items; all processes together have each of them once, in the order of the ranks.

        Returns:
            The items of this process.
        """
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def share(self, count: int) -> float:
        """Compute the weight of this process in a mean over items.

        Args:
            count: number of items, as for ``part``.

        Returns:
            The share of the items in ``part``, in 0…1.
        """
        own = self.part(count)
        return (own.stop - own.start) / count

    def agree(self, *values: int) -> list[int]:
        """Find out what any of the processes has to say.

        Args:
            *values: integers of this process, as many in each.

        Returns:
            The largest value of all processes, for each of them.
        """
        if self.size == 1:
            return list(values)
        largest = torch.tensor(values)
        dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=self.control)
        return [int(value) for value in largest]

    def broadcast(self, value: Value) -> Value:
        """Give a value of the main process to all.

        Args:
            value: any object that can be pickled; that of the other processes is ignored.

        Returns:
            The value of the main process.
        """
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.control)
        return values[0]

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.agree(0)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the main process run the ``with`` block before the others, which find the files that it wrote.

        Yields:
            Nothing.
        """
        if not self.is_main:
            self.wait()
        try:
            yield
        finally:
            if self.is_main:
                self.wait()

    def gather(self, rows: Shaped[Tensor, "N ..."]) -> Shaped[Tensor, "M ..."]:
        """Join the rows of all processes.

        Args:
            rows: rows of this process, on its device.

        Returns:
            The rows in the order of the ranks.
        """
        return rows if self.size == 1 else gather_rows(rows)

    def sum(self, values: Tensor) -> Tensor:
        """Add up the values of all processes.

        Args:
            values: values of this process, of one shape in all.

        Returns:
            The sums; with one process the values themselves.
        """
        if self.size == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total

    def mean(self, values: Mapping[str, float], share: float) -> dict[str, float]:
        """Average numbers over the processes.

        Args:
            values: numbers by name, the same names in all processes.
            share: weight of this process; those of all add up to 1.

        Returns:
            The weighted means by name.
        """
        if self.size == 1:
            return dict(values)
        weighted = torch.tensor(list(values.values()), dtype=torch.float64) * share
        dist.all_reduce(weighted, group=self.control)
        return dict(zip(values, weighted.tolist(), strict=True))

    def join_gradients(self, weights: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
        """Replace the gradients by those of the joined batch.

        Args:
            weights: the weights, with the gradients of ``loss``; those without one have none in any process.
            loss: the part of this process in the loss of the joined batch, which is the sum of the parts; a scalar.

        Returns:
            The loss over the joined batch, without a graph.
        """
        if self.size == 1:
            return loss.detach()
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        joined = torch.cat([loss.detach().reshape(1), *(gradient.reshape(-1) for gradient in gradients)])
        dist.all_reduce(joined)
        total, *parts = joined.split([1, *(gradient.numel() for gradient in gradients)])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return total[0]


# A training in this process on its CPU.
ALONE = Workers()


def is_launched() -> bool:
    """Find out whether this process is one of several that were started to work together.

    Returns:
        Whether torchrun, ``accelerate launch``, ``vqlab train --processes`` or the caller made a process group, or set
        the variables for one.

    Example:
        >>> is_launched()
        False
    """
    return is_distributed() or int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_main_process() -> bool:
    """Find out whether this process speaks for all that were started together.

    Returns:
        True for the process of rank 0, and without a process group.

    Example:
        >>> is_main_process()
        True
    """
    return not dist.is_initialized() or dist.get_rank() == 0


def join_workers(device: str | None = None) -> Workers:
    """Join the other processes of this training, if there are any.

    Args:
        device: a torch device; ``cuda`` is the CUDA device of this process, None (default) the same if there is one,
            else the CPU.

    Returns:
        The processes, with the device of this one.

    Raises:
        InputError: if the device is not available, or a variable of the launcher is missing.
    """
    if not is_launched():
        return Workers(device=find_device(device))
    if device in (None, "cuda") and torch.cuda.is_available():
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
    selected = find_device(device)
    if not dist.is_initialized():
        _initialise(selected)
    needs_control = dist.get_backend() != "gloo"
    control = dist.new_group(backend="gloo", timeout=_TIMEOUT) if needs_control else None
    return Workers(dist.get_rank(), dist.get_world_size(), selected, control)


def _initialise(device: str) -> None:
    """Make the process group: by the file of ``vqlab train --processes``, or as accelerate reads the environment."""
    if path := os.environ.get(RENDEZVOUS):
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        backend = "nccl" if device.startswith("cuda") else "gloo"
        dist.init_process_group(backend, init_method=f"file://{path}", rank=rank, world_size=size, timeout=_TIMEOUT)
        return
    if missing := [name for name in _VARIABLES if name not in os.environ]:
        raise InputError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']}: needs {', '.join(missing)} too; set them, or unset WORLD_SIZE to "
            "train in one process"
        )
    from accelerate import PartialState

    PartialState(cpu=device == "cpu", timeout=_TIMEOUT)
