"""What every quantizer has in common, whatever its family."""

from __future__ import annotations

from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vqlab.quantize.codebook import Codebook
from vqlab.quantize.codebook_rules import CodebookRule
from vqlab.quantize.output import QuantizerOutput
from vqlab.quantize.row_layout import channels_back, channels_last, memory_format
from vqlab.quantize.usage import bits_per_index
from vqlab.quantize.validation import check_channels


class Quantizer(nn.Module):
    """Base class of the quantizers: vectors z_e to z_q and indices, and indices back to z_q.

    A family defines ``forward``, ``decode`` and ``codebooks``, and the attributes below; what is here then applies to
    it. In eval mode ``decode(out.indices)`` equals ``out.z_q``.

    Attributes:
        num_codes: K, the number of values of one index.
        dim: D, the channels of z_e.
        channel_dim: Axis of the channels, 1 or −1.
        project_in: Linear layer into the space of the codes, or ``nn.Identity``.
        project_out: Linear layer back, or ``nn.Identity``.
    """

    num_codes: int
    dim: int
    channel_dim: int
    project_in: nn.Module
    project_out: nn.Module

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> QuantizerOutput:
        """Quantize z_e; in training mode also initialise and update codebooks.

        Args:
            z_e: Encoder vectors, (B, D, …) with ``channel_dim=1``, (…, D) with ``channel_dim=-1``.
            mask: False where a vector is padding, bool, (B, …) or (…). Default None.

        Returns:
            ``QuantizerOutput``; the indices have a last axis of ``codes_per_vector`` if that is above 1.

        Raises:
            NotImplementedError: in the base class.
        """
        raise NotImplementedError

    def decode(self, indices: Int[Tensor, " *shape"]) -> Tensor:
        """Look up z_q for indices, including the projection back.

        Args:
            indices: Indices as ``forward`` returns them.

        Returns:
            z_q, with the channels at ``channel_dim``.

        Raises:
            NotImplementedError: in the base class.
        """
        raise NotImplementedError

    @property
    def codebooks(self) -> Float[Tensor, "books K C"]:
        """The codes of each codebook, (books, num_codes, C), before the projection back."""
        raise NotImplementedError

    @property
    def codes_per_vector(self) -> int:
        """Number of indices for one vector."""
        return 1

    @property
    def bits(self) -> float:
        """Bits of the indices of one vector, log₂ K for each of them."""
        return self.codes_per_vector * bits_per_index(self.num_codes)

    @property
    def books(self) -> list[Codebook]:
        """The state of each codebook that is trained; empty for a family with fixed codes."""
        return [module for module in self.modules() if isinstance(module, Codebook)]

    def freeze(self, frozen: bool = True) -> None:
        """Stop, or continue, every change of the codebooks in training mode; the gradient of z_e is not affected.

        A frozen layer does no first fill, EMA step or restart, and codes of ``update="gradient"`` get no gradient.
        ``requires_grad_(False)`` on the layer does the same; on a module that contains it, it does not.

        Args:
            frozen: True (default) to stop, False to continue.
        """
        for book in self.books:
            book.frozen = frozen
            if isinstance(book.codes, nn.Parameter):
                book.codes.requires_grad_(not frozen)
        for module in self.modules():
            if isinstance(module, CodebookRule):
                module.requires_grad_(not frozen)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set whether the layer trains: its parameters, and the codebooks as with ``freeze``.

        Args:
            requires_grad: False to freeze the layer, True (default) to train it.

        Returns:
            The layer.
        """
        self.freeze(not requires_grad)
        return super().requires_grad_(requires_grad)

    def fit_codes(self, z_e: Tensor, batches: int = 1) -> None:
        """Set the codes from encoder vectors; a family with fixed codes leaves them.

        Args:
            z_e: Encoder vectors as for ``forward``, at least one.
            batches: Number of training batches that the vectors come from. Default 1.
        """

    def bypass(self, z_e: Tensor) -> Tensor:
        """Pass z_e through the projections of ``code_dim`` without quantization.

        Args:
            z_e: Encoder vectors as for ``forward``.

        Returns:
            z_e of the same shape, in the space of the decoder; z_e itself without ``code_dim``.

        Raises:
            InputError: if z_e has fewer than two axes or not ``dim`` channels at ``channel_dim``.
        """
        output = self.project_out(self.project_in(self._vectors(z_e)))
        return channels_back(output, self.channel_dim, memory_format(z_e))

    @torch.no_grad()
    def to_code_space(
        self, z_e: Tensor, z_q: Tensor, grad_z_q: Tensor | None = None, grad_z_e: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Map rows outside the projections of ``code_dim`` to the space of the codes, where the transport acts.

        With e = W z_e + b and z_q = V q + d, the gradients are ∇q = Vᵀ ∇z_q and ∇z_e = Wᵀ ∇e. Angles and lengths of
        vectors and gradients are those of the transport in this space only. q and ∇e are solutions of overdetermined
        systems, exact for z_q and ∇z_e of this layer.

        Args:
            z_e: Encoder vectors, (N, D).
            z_q: The layer's output for them, (N, D).
            grad_z_q: Gradients at z_q, (N, D). Default None.
            grad_z_e: Gradients at z_e through z_q, without that of the loss, (N, D). Default None.

        Returns:
            e, q, ∇q and ∇e, (N, C) each, or None for a gradient that is not given; the arguments themselves without
            ``code_dim``.
        """
        if not isinstance(self.project_in, nn.Linear) or not isinstance(self.project_out, nn.Linear):
            return z_e, z_q, grad_z_q, grad_z_e
        w, v, d = self.project_in.weight, self.project_out.weight, self.project_out.bias
        e, q = self.project_in(z_e.to(w.dtype)), (z_q.to(v.dtype) - d) @ torch.linalg.pinv(v).T
        grad_q = None if grad_z_q is None else grad_z_q.to(v.dtype) @ v
        grad_e = None if grad_z_e is None else grad_z_e.to(w.dtype) @ torch.linalg.pinv(w)
        return e, q, grad_q, grad_e

    def _vectors(self, z_e: Tensor) -> Tensor:
        """Vectors with the channels last, (…, D)."""
        check_channels(z_e, self.dim, self.channel_dim)
        return channels_last(z_e, self.channel_dim)
