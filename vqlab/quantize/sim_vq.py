"""SimVQ: codes that do not train, seen through one linear map that does."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from vqlab.errors import InputError
from vqlab.quantize.vector_quantizer import VectorQuantizer

# What makes the layer SimVQ.
_SET: dict[str, Any] = {"update": "gradient", "init": "normal", "restart_every": 0}


class SimVQ(VectorQuantizer):
    """Quantize by the nearest of K fixed random codes after one linear map, which is all that trains (SimVQ).

    With fixed codes F, (K, C), drawn from N(0, 1/C), and a C×C matrix W that trains::

        codes     c = F Wᵀ
        loss      β ‖e − sg[c]‖² + ‖sg[e] − c‖², means over all elements

    (Zhu et al., Addressing Representation Collapse in Vector Quantized Models with One Linear Layer, 2024). One used
    code moves W and with it all codes, so none is left behind. F is a buffer: no optimizer and no ``requires_grad_``
    makes it train. Shapes, statistics and everything else are those of ``VectorQuantizer``.

    Args:
        num_codes: K, at least 1.
        dim: D, the channels of z_e, at least 1.
        transport: How the gradient passes the quantizer; see ``VectorQuantizer``. Default ``"straight_through"``, as
            in the paper.
        code_dim: C, the channels of a code, at least 1. Default None: C = D without a projection of z_e.
        seed: Seed of F. W is initialised from torch's global generator. Default 0.
        **options: Other arguments of ``VectorQuantizer``, except ``update``, ``init``, ``restart_every`` and
            ``codes_from``.

    Attributes:
        codes_from: The linear map, ``nn.Linear(C, C, bias=False)``.

    Raises:
        InputError: if an argument of ``VectorQuantizer`` is out of its range, or one of those four is given.

    Example:
        >>> import torch, vqlab
        >>> quantizer = vqlab.SimVQ(num_codes=1024, dim=8)
        >>> [name for name, _ in quantizer.named_parameters()]
        ['codes_from.weight']
        >>> quantizer(torch.randn(2, 8, 4, 4)).indices.shape
        torch.Size([2, 4, 4])
    """

    def __init__(
        self,
        num_codes: int,
        dim: int,
        *,
        transport: str = "straight_through",
        code_dim: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        if fixed := options.keys() & {*_SET, "codes_from"}:
            raise InputError(f"{', '.join(sorted(fixed))}: set by SimVQ; use VectorQuantizer for other values")
        super().__init__(num_codes, dim, transport=transport, code_dim=code_dim, seed=seed, **_SET, **options)
        channels = self.book.codes.shape[1]
        self.codes_from = nn.Linear(channels, channels, bias=False)
        codes = self.book.codes.detach() * channels**-0.5
        del self.book.codes
        self.book.register_buffer("codes", codes)
        self.book.set_codes(codes, self.book.counts)

    def freeze(self, frozen: bool = True) -> None:
        """Stop, or continue, the training of the linear map, so that the codes keep their values.

        Args:
            frozen: True (default) to stop, False to continue.
        """
        super().freeze(frozen)
        cast(nn.Linear, self.codes_from).requires_grad_(not frozen)

    def fit_codes(self, z_e: Tensor, batches: int = 1) -> None:
        """Refuse: the codes of SimVQ are fixed random vectors, and only the linear map is trained.

        Args:
            z_e: Encoder vectors.
            batches: Number of batches that they come from.

        Raises:
            InputError: always.
        """
        raise InputError("fit_codes: the codes of SimVQ are fixed; use VectorQuantizer for codes from data")

    def _arguments(self) -> dict[str, Any]:
        """Arguments of the constructor, the four that SimVQ sets at the values that are not shown."""
        return {**super()._arguments(), "update": "ema", "init": "kmeans", "restart_every": 20, "codes_from": None}
