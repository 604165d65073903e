"""The steps of a codebook as operators that ``torch.compile`` does not look into.

A step of training draws random numbers, counts steps on the host and writes to the codebook, none of which can be
traced. Each operator calls the ``Codebook`` that holds the state, and returns the changed state as new tensors: where
an operator writes to its arguments, the compiler may read what was there before after the write.
"""

from __future__ import annotations

import itertools
from contextlib import AbstractContextManager
from typing import Any, Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor


class Steps(Protocol):
    """What the operators call of a ``Codebook``."""

    def state(self, **tensors: Tensor) -> AbstractContextManager[Any]:
        """Hold other tensors as the state for a while."""

    def noise(self, like: Tensor, *, uniform: bool) -> Tensor:
        """Draw the random numbers of the current step."""


# The codebooks of this process by the number that a compiled graph holds for each.
_CODEBOOKS: WeakValueDictionary[int, Steps] = WeakValueDictionary()
_numbers = itertools.count()


def register_codebook(book: Steps) -> int:
    """Give a codebook a number, by which an operator finds it.

    Args:
        book: The codebook; it is not kept alive.

    Returns:
        The number, unique in this process.
    """
    number = next(_numbers)
    _CODEBOOKS[number] = book
    return number


@torch.library.custom_op(
    "vqlab::initialise",
    mutates_args=(),
    schema="(Tensor codes, Tensor counts, Tensor sums, Tensor filled, Tensor e, Tensor rows, int book)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
)
def initialise(
    codes: Tensor, counts: Tensor, sums: Tensor, filled: Tensor, e: Tensor, rows: Tensor, book: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Call ``Codebook.initialise`` with a copy of its state.

    Args:
        codes: The codes, (K, C).
        counts: EMA counts, (K,).
        sums: EMA sums, (K, C).
        filled: Whether the codes are initialised, scalar.
        e: Encoder vectors, (N, C).
        rows: True, in a mask of (N,), for the vectors that count.
        book: The number of the codebook.

    Returns:
        codes, counts, sums and filled after the call.
    """
    state = (codes.clone(), counts.clone(), sums.clone(), filled.clone())
    with _CODEBOOKS[book].state(codes=state[0], counts=state[1], sums=state[2], filled=state[3]) as found:
        found.initialise(e, rows)
    return state


@initialise.register_fake
def _shapes_of_initialise(*arguments: Any) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(tensor) for tensor in arguments[:4])


@torch.library.custom_op(
    "vqlab::update",
    mutates_args=(),
    schema="(Tensor codes, Tensor counts, Tensor sums, Tensor recent, Tensor step, Tensor e, Tensor rows,"
    " Tensor batch_counts, Tensor batch_sums, int book) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def update(
    codes: Tensor, counts: Tensor, sums: Tensor, recent: Tensor, step: Tensor, e: Tensor, rows: Tensor,
    batch_counts: Tensor, batch_sums: Tensor, book: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Call ``Codebook.update_codes`` with a copy of its state.

    Args:
        codes: The codes, (K, C).
        counts: EMA counts, (K,).
        sums: EMA sums, (K, C).
        recent: Vectors per code since the last check for dead codes, (K,).
        step: Number of training steps, scalar.
        e: Encoder vectors, (N, C).
        rows: True, in a mask of (N,), for the vectors that count.
        batch_counts: Vectors per code in the batch, (K,).
        batch_sums: Sum of the vectors per code in the batch, (K, C).
        book: The number of the codebook.

    Returns:
        codes, counts, sums, recent and step after the call, and the number of restarted codes, a scalar.
    """
    state = (codes.clone(), counts.clone(), sums.clone(), recent.clone(), step.clone())
    names = ("codes", "counts", "sums", "recent", "step")
    with _CODEBOOKS[book].state(**dict(zip(names, state, strict=True))) as found:
        restarts = found.update_codes(e, rows, batch_counts.clone(), batch_sums.clone())
    return (*state, restarts)


@update.register_fake
def _shapes_of_update(*arguments: Any) -> tuple[Tensor, ...]:
    return (*(torch.empty_like(tensor) for tensor in arguments[:5]), arguments[0].new_empty((), dtype=torch.float32))


@torch.library.custom_op(
    "vqlab::step_noise", mutates_args=(), schema="(Tensor like, Tensor step, bool uniform, int book) -> Tensor"
)
def step_noise(like: Tensor, step: Tensor, uniform: bool, book: int) -> Tensor:
    """Draw the random numbers of the current step.

    Args:
        like: Tensor of the shape, dtype and device of the result.
        step: Number of training steps; ties the operator to its place in the graph.
        uniform: True for U(0, 1), False for N(0, 1).
        book: The number of the codebook.

    Returns:
        The numbers, of the shape of ``like``.
    """
    return _CODEBOOKS[book].noise(like, uniform=uniform)


@step_noise.register_fake
def _shape_of_noise(like: Tensor, step: Tensor, uniform: bool, book: int) -> Tensor:
    return torch.empty_like(like)
