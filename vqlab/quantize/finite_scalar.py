"""Finite scalar quantization: each scalar of a vector is bounded and rounded to a few integers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from operator import mul

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vqlab.errors import InputError
from vqlab.quantize.fixed_codes import FixedCodesQuantizer
from vqlab.quantize.transports import Rows

# By this much the bounded scalars reach beyond the outermost levels, as in the paper.
_MARGIN = 1e-3
# With more levels the margin would be more than half a level.
_MOST_LEVELS = 1000


class FiniteScalarQuantizer(FixedCodesQuantizer):
    """Round each of C scalars to one of L levels (FSQ): no table of codes, no search, no loss.

    With L levels for a scalar z (after the projection), and ⌊·⌉ rounding to the nearest integer::

        half h = (L − 1)(1 + 10⁻³) / 2,   offset o = ½ for even L and 0 for odd L,   shift s = artanh(o / h)
        bounded   b = h tanh(z + s) − o
        value     q = ⌊b⌉ / ⌊L/2⌋
        gradient  of q at e = b / ⌊L/2⌋ by the transport, and from e to z that of tanh

    (Mentzer et al., Finite Scalar Quantization: VQ-VAE Made Simple, 2023). The index of a code is Σᵢ dᵢ L₁⋯Lᵢ₋₁ with
    the numbers d = ⌊b⌉ + ⌊L/2⌋ of its levels, so the first scalar changes fastest, as in the paper and in
    vector-quantize-pytorch.

    Shapes are those of ``VectorQuantizer``. ``vqlab.quantize.fixed_codes.FixedCodesQuantizer`` describes projections,
    dtypes, masks and the attributes that are not listed here.

    Args:
        levels: L of each scalar, 3…1000 each; their product is the number of codes. The paper advises at least 5 and
            uses [8, 6, 5] for about 2⁸ codes, [8, 5, 5, 5] for 2¹⁰, [7, 5, 5, 5, 5] for 2¹² and [8, 8, 8, 6, 5] for
            2¹⁴.
        dim: D, the channels of z_e, at least 1. Linear layers map to C = len(levels) channels and back if C ≠ D.
        transport: How the gradient passes the rounding, a backward rule of ``vqlab.quantize.transport_names()`` that
            is applied to the C bounded scalars e and the code q. Default ``"straight_through"``, as in the paper. A
            rotation has no direction at the code 0 and is straight-through there (``stats["fallback_fraction"]``).
        transport_fraction: The part of the way from e to q that the rule sees, in 0…1. Default 1.
        channel_dim: Axis of the channels: 1 (default) or −1.

    Attributes:
        levels: As the argument, a tuple.
        num_codes: Product of the levels.

    Raises:
        InputError: if there are no levels or one is outside 3…1000, or an argument of the common part is wrong.

    Example:
        >>> import torch, vqlab
        >>> quantizer = vqlab.FiniteScalarQuantizer([8, 5, 5, 5], dim=64)
        >>> out = quantizer(torch.randn(2, 64, 4, 4))
        >>> quantizer.num_codes, out.z_q.shape, out.indices.shape
        (1000, torch.Size([2, 64, 4, 4]), torch.Size([2, 4, 4]))
        >>> torch.equal(quantizer.decode(out.indices), out.z_q)
        True
    """

    def __init__(
        self,
        levels: Sequence[int],
        dim: int,
        *,
        transport: str = "straight_through",
        transport_fraction: float = 1.0,
        channel_dim: int = 1,
    ) -> None:
        if not levels or not all(3 <= count <= _MOST_LEVELS for count in levels):
            raise InputError(
                f"levels={list(levels)}: must be one or more numbers in 3…{_MOST_LEVELS}; for two values of a scalar "
                "use LookupFreeQuantizer, since the paper's bound has one level at z = 0 then"
            )
        super().__init__(
            levels, dim, transport=transport, transport_fraction=transport_fraction, channel_dim=channel_dim
        )
        self.levels = tuple(levels)

    @staticmethod
    def _places(radices: Sequence[int]) -> list[int]:
        return list(accumulate(radices[:-1], mul, initial=1))

    def _assign(self, projected: Float[Tensor, "N C"]) -> tuple[Float[Tensor, "N C"], Int[Tensor, "N C"]]:
        half = (self.radices - 1).to(projected.dtype) * (1 + _MARGIN) / 2
        offset = (self.radices % 2 == 0).to(projected.dtype) / 2
        bounded = torch.tanh(projected + torch.atanh(offset / half)) * half - offset
        centre = self.radices // 2
        return bounded / centre, bounded.detach().round().to(torch.int64) + centre

    def _values(self, digits: Int[Tensor, "*rows C"]) -> Float[Tensor, "*rows C"]:
        centre = self.radices // 2
        return (digits - centre).to(self._code_dtype()) / centre

    def _loss(self, e: Rows, q: Rows, rows: Bool[Tensor, " N"]) -> Float[Tensor, ""]:
        return e.new_zeros(())
