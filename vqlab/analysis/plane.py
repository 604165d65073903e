"""Vector quantization in the plane: a few codes, a quadratic loss, and the gradient of each transport."""

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
    """Codes in the plane with the loss ½‖q − target‖², so that the gradient at a code q is q − target.

    Args:
        codes: positions of the codes, (K, 2) with K at least 1; default: seven codes in [−2, 2]².
        target: position at which the loss is 0.
        origin: centre of the rotations; (0, 0) as in the model. Moving it away from the codes has the same effect as
            moving codes and points away from (0, 0).

    Raises:
        InputError: if ``codes`` has another shape.

    Example:
        >>> plane = Plane(codes=torch.tensor([[1.0, 0.0], [0.0, 1.0]]), target=(1.0, 0.0))
        >>> points = torch.tensor([[0.9, 0.2], [0.1, 0.8]])
        >>> plane.cells(points).tolist(), plane.loss(points).tolist()
        ([0, 1], [0.0, 1.0])
    """

    codes: Points = field(default_factory=lambda: torch.tensor(_CODES))
    target: tuple[float, float] = (0.9, 0.9)
    origin: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if self.codes.dim() != 2 or self.codes.shape[1] != 2 or not len(self.codes):
            raise InputError(f"codes: shape {tuple(self.codes.shape)}: must be (K, 2) with K at least 1")

    def cells(self, points: Points) -> Int[Tensor, " N"]:
        """Find the Voronoi cell of each point.

        Args:
            points: positions, (N, 2).

        Returns:
            The index of the nearest code of each point.
        """
        return nearest_codes(points, self.codes)

    def gradient(self, points: Points, kind: str) -> Points:
        """Compute the gradient that a transport gives to the encoder at each point.

        Args:
            points: encoder vectors, (N, 2).
            kind: name of a transport, see ``vqlab.quantize.transport_names``.

        Returns:
            The gradients, (N, 2).
        """
        q = self.codes[self.cells(points)]
        origin = torch.tensor(self.origin)
        return transport_gradient(q - torch.tensor(self.target), points - origin, q - origin, kind)

    def descend(self, points: Points, kind: str, steps: int = 20, rate: float = 0.1) -> Float[Tensor, "S N 2"]:
        """Move points by gradient descent with a transport.

        Args:
            points: start positions, (N, 2).
            kind: name of a transport.
            steps: number of steps.
            rate: learning rate.

        Returns:
            The positions, start included: S = ``steps`` + 1.
        """
        path = [points]
        for _ in range(steps):
            path.append(path[-1] - rate * self.gradient(path[-1], kind))
        return torch.stack(path)

    def loss(self, points: Points) -> Float[Tensor, " N"]:
        """Compute the loss ½‖q − target‖² of the code of each point.

        Args:
            points: positions, (N, 2).

        Returns:
            The losses, (N,).
        """
        return (self.codes[self.cells(points)] - torch.tensor(self.target)).square().sum(dim=1) / 2


def square_grid(count: int = 15, half_width: float = 2.2) -> Points:
    """Make evenly spaced points in the square [−half_width, half_width]².

    Args:
        count: points along each side.
        half_width: half of the side of the square.

    Returns:
        ``count``² points; the second coordinate changes fastest.

    Example:
        >>> square_grid(2, 1.0).tolist()
        [[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]
    """
    line = torch.linspace(-half_width, half_width, count)
    return torch.cartesian_prod(line, line)
