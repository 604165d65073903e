"""The plane as a toy: codes, a loss at the decoder, and what each transport hands to the encoder."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vqlab.errors import InputError
from vqlab.quantize import transport_gradient
from vqlab.quantize.search import nearest_codes

Points = Float[Tensor, "N 2"]

_CODES = ((1.6, 0.4), (0.5, 1.7), (-1.2, 1.1), (-1.5, -0.8), (0.2, -1.6), (1.3, -1.1), (0.3, 0.2))


@dataclass(frozen=True)
class Plane:
    """Codes (K, 2) and the decoder's wish: loss ½‖q − target‖², so the gradient at a code is q − target.

    origin: the point that vectors are turned about; (0, 0) is the model's own. Moving it away is the
    same as moving codes and points away from it. Raises InputError for codes that are not (K ≥ 1, 2).
    """

    codes: Points = field(default_factory=lambda: torch.tensor(_CODES))
    target: tuple[float, float] = (0.9, 0.9)
    origin: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if self.codes.dim() != 2 or self.codes.shape[1] != 2 or not len(self.codes):
            raise InputError(f"codes: shape {tuple(self.codes.shape)} must be (K, 2) with K at least 1")

    def cells(self, points: Points) -> Int[Tensor, " N"]:
        """The index of each point's code: its Voronoi cell."""
        return nearest_codes(points, self.codes)

    def gradient(self, points: Points, kind: str) -> Points:
        """What ``kind`` hands to the encoder at each point; raises InputError for an unknown kind."""
        q = self.codes[self.cells(points)]
        origin = torch.tensor(self.origin)
        return transport_gradient(q - torch.tensor(self.target), points - origin, q - origin, kind)

    def descend(self, points: Points, kind: str, steps: int = 20, rate: float = 0.1) -> Float[Tensor, "S N 2"]:
        """The paths of points that follow −``rate`` × gradient for ``steps`` steps, start included."""
        path = [points]
        for _ in range(steps):
            path.append(path[-1] - rate * self.gradient(path[-1], kind))
        return torch.stack(path)

    def loss(self, points: Points) -> Float[Tensor, " N"]:
        """½‖q − target‖² of each point's code."""
        return (self.codes[self.cells(points)] - torch.tensor(self.target)).square().sum(dim=1) / 2


def square_grid(count: int = 15, half: float = 2.2) -> Points:
    """count² points, evenly spaced in [−half, half]²."""
    line = torch.linspace(-half, half, count)
    return torch.cartesian_prod(line, line)
