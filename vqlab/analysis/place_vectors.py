"""The vectors that the levels and heads of a quantizer quantize, and their codes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vqlab.quantize import Quantizer
from vqlab.quantize.projection import project


class PlaceVectors(NamedTuple):
    """What one place of the indices stands for.

    Attributes:
        vectors: what the place quantizes, in the space of its codes, (N, C).
        codes: its codes, (K, C).
    """

    vectors: Float[Tensor, "N C"]
    codes: Float[Tensor, "K C"]


@torch.no_grad()
def place_vectors(
    quantizer: Quantizer, z_e: Float[Tensor, "B D h w"], indices: Int[Tensor, "B h w n"], levels: int
) -> list[PlaceVectors]:
    """Compute what each place of the indices quantizes.

    With e the channels of a head after the projection, level l of the head quantizes e − q₁ − … − qₗ₋₁.

    Args:
        quantizer: a quantizer with a codebook, for several codes a vector.
        z_e: encoder vectors.
        indices: their indices, in n places, all levels of the first head first.
        levels: number of levels of a head; 1 without levels.

    Returns:
        One entry for each place; N = B · h · w, in the order of the indices.
    """
    books, places = quantizer.codebooks, indices.shape[-1]
    heads = project(quantizer.project_in, z_e.movedim(1, -1)).reshape(-1, places // levels, books.shape[-1])
    rows = indices.reshape(-1, places)
    found: list[PlaceVectors] = []
    for place in range(places):
        head, level = divmod(place, levels)
        vectors = heads[:, head]
        if level > 0:
            before = found[-1]
            vectors = before.vectors - before.codes[rows[:, place - 1]]
        # Heads that share a codebook have one entry for each level.
        found.append(PlaceVectors(vectors, books[place % len(books)]))
    return found
