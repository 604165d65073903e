"""Precision and recall of generated images, on the features of generated and real images."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from vqlab.errors import InputError

NUM_NEIGHBOURS = 3
_CHUNK_SIZE = 1024


def precision_recall(
    real: Float[Tensor, "N D"], fake: Float[Tensor, "M D"], num_neighbours: int = NUM_NEIGHBOURS
) -> tuple[float, float]:
    """Compute the share of generated images in the manifold of the real ones (precision), and the reverse (recall).

    The manifold of a set is the union of balls around its vectors, each with the distance to the k-th nearest other
    vector as radius. (Not piq's implementation: for recall, piq 0.8 uses the radii of the wrong set.)

    Source: Kynkäänniemi et al., Improved Precision and Recall Metric for Assessing Generative Models, 2019.

    Args:
        real: features of real images.
        fake: features of generated images.
        num_neighbours: k, at least 1.

    Returns:
        Precision and recall, each in [0, 1].

    Raises:
        InputError: if a set does not have more than ``num_neighbours`` vectors.

    Example:
        >>> real = torch.arange(10.0)[:, None]
        >>> precision_recall(real, real[:5], num_neighbours=1)
        (1.0, 0.6)
    """
    count = min(len(real), len(fake))
    if count <= num_neighbours:
        raise InputError(
            f"images={count}: precision and recall need more than {num_neighbours} (num_neighbours); use more images"
        )
    centre = real.double().mean(0)
    centred_real, centred_fake = real.double() - centre, fake.double() - centre
    precision = _share_inside(centred_fake, centred_real, num_neighbours)
    return precision, _share_inside(centred_real, centred_fake, num_neighbours)


def _share_inside(points: Float64[Tensor, "P D"], manifold: Float64[Tensor, "Q D"], num_neighbours: int) -> float:
    """Share of ``points`` in the balls around ``manifold``, including the surface up to rounding."""
    tolerance = 1e-12 * manifold.square().sum(1).max()
    # The nearest vector of the set to a vector is the vector itself.
    radii = torch.cat(
        [
            _squared_distances(chunk, manifold).kthvalue(num_neighbours + 1).values
            for chunk in manifold.split(_CHUNK_SIZE)
        ]
    )
    inside = [(_squared_distances(chunk, manifold) <= radii + tolerance).any(1) for chunk in points.split(_CHUNK_SIZE)]
    return float(torch.cat(inside).double().mean())


def _squared_distances(one: Float64[Tensor, "P D"], other: Float64[Tensor, "Q D"]) -> Float64[Tensor, "P Q"]:
    """By one matrix product in float64; differences of all pairs take hours for 10,000 images."""
    return one.square().sum(1)[:, None] + other.square().sum(1) - 2 * one @ other.T
