"""Binary codes: each scalar of a vector is replaced by its sign, on a cube (LFQ) or on a sphere (BSQ)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vqlab.errors import InputError
from vqlab.quantize.fixed_codes import FixedCodesQuantizer
from vqlab.quantize.floors import NORM_FLOOR
from vqlab.quantize.loss_terms import bit_entropies, mean_square
from vqlab.quantize.transports import Rows
from vqlab.quantize.usage import squared_distances
from vqlab.quantize.validation import check_sizes, check_temperature, check_weights

_LARGEST_GROUP = 20


class LookupFreeQuantizer(FixedCodesQuantizer):
    """Replace each of L scalars by its sign (LFQ): 2ᴸ codes without a table.

    Equations, for the L scalars e of a vector (after the projection), sg the stop-gradient and τ the temperature::

        value     q = sign(e), with sign(0) = −1
        index     Σᵢ [eᵢ > 0] 2^(L−i), i = 1…L
        p(q′|e)   softmax over all codes q′ of −‖e − q′‖² / τ, which is Πᵢ σ(4 eᵢ q′ᵢ / τ)
        loss      β ‖e − sg[q]‖² (mean over all elements)
                  + entropy_weight · meanₑ H(p) + diversity_weight · (L log 2 − H(meanₑ p))

    (Yu et al., Language Model Beats Diffusion: Tokenizer is Key to Visual Generation, 2023). The first bit is the most
    significant one, as in vector-quantize-pytorch. H(p) is a sum over bits. H(meanₑ p) is a sum over groups of
    ``group_bits`` bits, an upper bound that is exact with ``group_bits=bits``; no table of all vectors and codes is
    held.

    Shapes are those of ``VectorQuantizer``. ``vqlab.quantize.fixed_codes.FixedCodesQuantizer`` describes projections,
    dtypes, masks and the attributes that are not listed here.

    Args:
        bits: L, bits of a code, 1…62.
        dim: D, the channels of z_e, at least 1. Linear layers map to L channels and back if L ≠ D.
        transport: How the gradient passes the sign, a backward rule of ``vqlab.quantize.transport_names()``. Default
            ``"straight_through"``, as in the paper.
        transport_fraction: The part of the way from e to q that the rule sees, in 0…1. Default 1.
        beta: β, weight of the commitment term, at least 0. Default 0.25.
        entropy_weight: Weight of the mean entropy of a vector's code probabilities, at least 0. Default 0.1. Increase
            it so that scalars keep away from 0.
        diversity_weight: Weight of the distance of the mean probabilities from uniform, at least 0. Default 0.1.
            Increase it so that more codes are used.
        temperature: τ, above 0; can be changed between steps. Default 0.01, as in public implementations of LFQ.
        group_bits: Bits of a group in the diversity term, a divisor of ``bits``, at most 20. Default 1. With g bits
            the term holds about N · 2^(g/2) numbers for each group.
        channel_dim: Axis of the channels: 1 (default) or −1.

    Attributes:
        num_codes: 2ᴸ.
        beta: As the argument; can be changed between steps.
        entropy_weight: As the argument; can be changed between steps.
        diversity_weight: As the argument; can be changed between steps.
        temperature: As the argument; can be changed between steps.
        group_bits: As the argument.

    Raises:
        InputError: if ``bits`` is outside 1…62, ``group_bits`` is no divisor of it or above 20, a weight is below 0,
            the temperature is not above 0, or an argument of the common part is wrong.

    Example:
        >>> import torch, vqlab
        >>> quantizer = vqlab.LookupFreeQuantizer(bits=18, dim=64)
        >>> out = quantizer(torch.randn(2, 64, 4, 4))
        >>> quantizer.num_codes, out.z_q.shape, out.indices.shape
        (262144, torch.Size([2, 64, 4, 4]), torch.Size([2, 4, 4]))
    """

    def __init__(
        self,
        bits: int,
        dim: int,
        *,
        transport: str = "straight_through",
        transport_fraction: float = 1.0,
        beta: float = 0.25,
        entropy_weight: float = 0.1,
        diversity_weight: float = 0.1,
        temperature: float = 0.01,
        group_bits: int = 1,
        channel_dim: int = 1,
    ) -> None:
        check_sizes(bits=bits, group_bits=group_bits)
        if bits % group_bits or group_bits > _LARGEST_GROUP:
            raise InputError(f"group_bits={group_bits}: must be a divisor of bits={bits} and at most {_LARGEST_GROUP}")
        check_weights("gradient", beta=beta, entropy_weight=entropy_weight, diversity_weight=diversity_weight)
        check_temperature(temperature)
        super().__init__(
            [2] * bits, dim, transport=transport, transport_fraction=transport_fraction, channel_dim=channel_dim
        )
        self.beta, self.entropy_weight, self.diversity_weight = beta, entropy_weight, diversity_weight
        self.temperature, self.group_bits = temperature, group_bits

    @staticmethod
    def _places(radices: Sequence[int]) -> list[int]:
        return [1 << place for place in reversed(range(len(radices)))]

    def _size(self) -> float:
        """Absolute value of each scalar of a code."""
        return 1.0

    def _assign(self, projected: Float[Tensor, "N C"]) -> tuple[Float[Tensor, "N C"], Int[Tensor, "N C"]]:
        return projected, (projected.detach() > 0).to(torch.int64)

    def _values(self, digits: Int[Tensor, "*rows C"]) -> Float[Tensor, "*rows C"]:
        return (2 * digits - 1).to(self._code_dtype()) * self._size()

    def _loss(self, e: Rows, q: Rows, rows: Bool[Tensor, " N"]) -> Float[Tensor, ""]:
        loss = e.new_zeros(())
        if self.beta:
            loss = loss + self.beta * mean_square(e, q, squared_distances(e.detach(), q), rows)
        if self.entropy_weight or self.diversity_weight:
            logits = 4 * self._size() / self.temperature * e
            uncertainty, unevenness = bit_entropies(logits, rows, self.group_bits)
            loss = loss + self.entropy_weight * uncertainty + self.diversity_weight * unevenness
        return loss


class BinarySphericalQuantizer(LookupFreeQuantizer):
    """Replace each of L scalars of a unit vector by its sign over √L (BSQ): 2ᴸ codes on the sphere without a table.

    Equations, for the L scalars v of a vector (after the projection), and τ the temperature::

        unit      u = v / ‖v‖
        value     q = sign(u) / √L, with sign(0) = −1, so that ‖q‖ = 1 and ‖u − q‖² < 2
        index     Σᵢ [uᵢ > 0] 2^(L−i), i = 1…L
        p(q′|u)   softmax over all codes q′ of −‖u − q′‖² / τ, which is Πᵢ σ(4 uᵢ q′ᵢ / τ)
        loss      entropy_weight · meanᵤ H(p) + diversity_weight · (L log 2 − H(meanᵤ p)) [+ β ‖u − sg[q]‖²]

    (Zhao et al., Image and Video Tokenization with Binary Spherical Quantization, 2024; the two entropies as in
    ``LookupFreeQuantizer``). The gradient goes from q to u by the transport and from u to v by the derivative of the
    normalisation. u and q have length 1, so the rotation from u to q has λ = 1 and is always defined, except at v = 0,
    which stays 0 in e and gets the gradient of u.

    Args:
        bits: L, bits of a code, 1…62.
        dim: D, the channels of z_e, at least 1. Linear layers map to L channels and back if L ≠ D.
        transport: How the gradient passes the sign, a backward rule of ``vqlab.quantize.transport_names()``. Default
            ``"straight_through"``, as in the paper.
        transport_fraction: The part of the way from u to q that the rule sees, in 0…1. Default 1.
        beta: β, weight of the commitment term, at least 0. Default 0: the error is bounded, and the authors use none.
        entropy_weight: Weight of the mean entropy of a vector's code probabilities, at least 0. Default 0.1.
        diversity_weight: Weight of the distance of the mean probabilities from uniform, at least 0. Default 0.1.
            Increase it so that more codes are used.
        temperature: τ, above 0; can be changed between steps. Default 1, as in the code that the authors released;
            vector-quantize-pytorch uses 0.01.
        group_bits: Bits of a group in the diversity term, a divisor of ``bits``, at most 20. Default 1; the authors
            use 9 of 18.
        channel_dim: Axis of the channels: 1 (default) or −1.

    Attributes:
        num_codes: 2ᴸ.

    Raises:
        InputError: as ``LookupFreeQuantizer``.

    Example:
        >>> import torch, vqlab
        >>> out = vqlab.BinarySphericalQuantizer(bits=4, dim=4, channel_dim=-1)(torch.tensor([[3.0, -1.0, -1.0, 2.0]]))
        >>> out.z_q, out.indices
        (tensor([[ 0.5000, -0.5000, -0.5000,  0.5000]]), tensor([9]))
    """

    def __init__(
        self,
        bits: int,
        dim: int,
        *,
        transport: str = "straight_through",
        transport_fraction: float = 1.0,
        beta: float = 0.0,
        entropy_weight: float = 0.1,
        diversity_weight: float = 0.1,
        temperature: float = 1.0,
        group_bits: int = 1,
        channel_dim: int = 1,
    ) -> None:
        super().__init__(
            bits, dim, transport=transport, transport_fraction=transport_fraction, beta=beta,
            entropy_weight=entropy_weight, diversity_weight=diversity_weight, temperature=temperature,
            group_bits=group_bits, channel_dim=channel_dim,
        )  # fmt: skip

    def _size(self) -> float:
        return self.code_dim**-0.5

    def _assign(self, projected: Float[Tensor, "N C"]) -> tuple[Float[Tensor, "N C"], Int[Tensor, "N C"]]:
        lengths = torch.linalg.vector_norm(projected, dim=1, keepdim=True)
        return super()._assign(projected / torch.where(lengths > NORM_FLOOR, lengths, 1))
