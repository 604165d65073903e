"""Precision and recall of samples against real images, on their features."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vqlab.errors import InputError

NEIGHBOURS = 3
_CHUNK = 1024


def precision_recall(
    real: Float[Tensor, "N D"], fake: Float[Tensor, "M D"], neighbours: int = NEIGHBOURS
) -> tuple[float, float]:
    """Share of fakes inside the real manifold, and of real images inside the fakes' one, each in [0, 1].

    A manifold is the union of balls that reach each point's k-th nearest neighbour (Kynkäänniemi et al., Improved
    Precision and Recall Metric for Assessing Generative Models, 2019). Own code, since piq 0.8 compares the recall's
    ties with the radii of the wrong set. Raises InputError for no more than ``neighbours`` vectors.
    """
    if min(len(real), len(fake)) <= neighbours:
        raise InputError(
            f"images={min(len(real), len(fake))}: precision and recall need more than {neighbours} (neighbours); "
            "give more"
        )
    centre = real.double().mean(0)
    real, fake = real.double() - centre, fake.double() - centre
    return _inside(fake, real, neighbours), _inside(real, fake, neighbours)


def _inside(points: Tensor, manifold: Tensor, neighbours: int) -> float:
    """Share of ``points`` in the balls around ``manifold``; on the edge, up to rounding, is inside."""
    slack = 1e-12 * manifold.square().sum(1).max()
    radii = torch.cat([_squares(part, manifold).kthvalue(neighbours + 1).values for part in manifold.split(_CHUNK)])
    found = [(_squares(part, manifold) <= radii + slack).any(1) for part in points.split(_CHUNK)]
    return float(torch.cat(found).double().mean())


def _squares(one: Tensor, other: Tensor) -> Tensor:
    """Squared distances by one matrix product, in float64: differences of pairs would take hours on 10,000 images."""
    return one.square().sum(1)[:, None] + other.square().sum(1) - 2 * one @ other.T
