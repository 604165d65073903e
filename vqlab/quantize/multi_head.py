"""Several codes for one vector: its channels in groups, each quantized by itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vqlab.errors import InputError
from vqlab.quantize.output import QuantizerOutput
from vqlab.quantize.projection import project, projections, working_dtype
from vqlab.quantize.quantizer import Quantizer
from vqlab.quantize.residual import ResidualQuantizer
from vqlab.quantize.row_layout import channels_back, memory_format, without_padding
from vqlab.quantize.validation import check_mask, check_sizes
from vqlab.quantize.vector_quantizer import VectorQuantizer

# Statistics that are numbers of codes or vectors; of all others the mean over the heads is taken.
_SUMS = ("dead_codes", "non_finite", "restarts")


class MultiHeadQuantizer(Quantizer):
    """Quantize every vector by codes for each group of its channels (product quantization).

    The channels, D, or heads · C after a projection with ``code_dim``, are split into ``heads`` groups of C channels.
    Each group is quantized by a ``VectorQuantizer``: by one codebook for all heads, or one for each. With H heads and
    K codes a vector has Kᴴ possible values and H log₂ K bits (Jégou, Douze and Schmid, Product Quantization for Nearest
    Neighbor Search, 2011). With ``levels`` above 1 it is a ``ResidualQuantizer``, and the vector has H · levels codes
    (Yang et al., HiFi-Codec: Group-residual Vector Quantization for High Fidelity Audio Codec, 2023).

    Shapes are those of ``VectorQuantizer``, except for the indices, which have a last axis of ``heads`` · ``levels``:
    with ``channel_dim=1`` and z_e (B, D, H, W) they are (B, H, W, heads · levels), all levels of the first head first.

    Args:
        num_codes: K, codes of one codebook, at least 1.
        dim: D, the channels of z_e, at least 1.
        heads: Number of groups, at least 1.
        levels: Number of codes for one group, at least 1. Default 1.
        shared: True (default) for one codebook that all heads use, False for one codebook each.
        shared_levels: With ``levels`` above 1, the argument ``shared`` of ``ResidualQuantizer``. Default False.
        code_dim: C, the channels of a code, at least 1. Default None: D / heads without a projection. If set, one
            linear layer maps D to heads · C before the search and another maps back.
        channel_dim: Axis of the channels: 1 (default) or −1.
        seed: Seed as in ``VectorQuantizer``; with ``shared=False`` head h has seed + h · levels. Default 0.
        **options: Other arguments of ``VectorQuantizer``, or of ``ResidualQuantizer`` with ``levels`` above 1.

    Attributes:
        quantizers: The quantizer of each head, or the one of all heads.
        num_codes: As the argument.
        heads: As the argument.
        levels: As the argument.
        dim: As the argument.
        channel_dim: As the argument.
        project_in: Linear layer D → heads · C, or ``nn.Identity`` without ``code_dim``.
        project_out: Linear layer heads · C → D, or ``nn.Identity`` without ``code_dim``.

    Raises:
        InputError: if a size is below 1, ``dim`` is no multiple of ``heads`` without ``code_dim``, or an argument of
            ``VectorQuantizer`` is out of its range.

    Example:
        >>> import torch, vqlab
        >>> quantizer = vqlab.MultiHeadQuantizer(num_codes=16, dim=8, heads=2)
        >>> out = quantizer(torch.randn(32, 8, 4, 4))
        >>> out.z_q.shape, out.indices.shape
        (torch.Size([32, 8, 4, 4]), torch.Size([32, 4, 4, 2]))
    """

    def __init__(
        self,
        num_codes: int,
        dim: int,
        heads: int,
        *,
        levels: int = 1,
        shared: bool = True,
        shared_levels: bool = False,
        code_dim: int | None = None,
        channel_dim: int = 1,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        code_channels = 1 if code_dim is None else code_dim
        check_sizes(num_codes=num_codes, dim=dim, heads=heads, levels=levels, code_dim=code_channels)
        if code_dim is None and dim % heads:
            raise InputError(f"heads={heads}: dim={dim} must be a multiple of it, or set code_dim for a projection")
        channels = dim // heads if code_dim is None else code_dim
        self.num_codes, self.heads, self.levels, self.dim, self.channel_dim = num_codes, heads, levels, dim, channel_dim
        self.project_in, self.project_out = projections(dim, None if code_dim is None else heads * code_dim)
        family: Callable[..., Quantizer] = VectorQuantizer
        if levels > 1:
            family = partial(ResidualQuantizer, levels=levels, shared=shared_levels)
        self.quantizers = nn.ModuleList(
            family(num_codes, channels, channel_dim=-1, seed=seed + head * levels, **options)
            for head in range(1 if shared else heads)
        )

    @property
    def codes_per_vector(self) -> int:
        """Number of indices for one vector, ``heads`` · ``levels``."""
        return self.heads * self.levels

    @property
    def codebooks(self) -> Float[Tensor, "books K C"]:
        """The codes of each codebook; (1, num_codes, C) with ``shared=True``, otherwise (heads, num_codes, C).

        With several levels, those of each level follow each other.
        """
        return torch.cat([quantizer.codebooks for quantizer in self._layers()])

    @property
    def transport(self) -> str:
        """Name of the gradient transport of all heads; can be changed between steps."""
        return self._heads()[0].transport

    @transport.setter
    def transport(self, name: str) -> None:
        for quantizer in self._heads():
            quantizer.transport = name

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> QuantizerOutput:
        """Quantize z_e; in training mode also initialise and update the codebooks.

        Args:
            z_e: Encoder vectors, as for ``VectorQuantizer``.
            mask: False where a vector is padding, bool, (B, …) or (…). Default None.

        Returns:
            ``QuantizerOutput`` as of ``VectorQuantizer``, with a last axis of codes in the indices. With
            ``shared=False`` the loss and the statistics are means over the heads; numbers of codes and vectors are
            sums.

        Raises:
            InputError: if z_e has fewer than two axes or not ``dim`` channels at ``channel_dim``, or the mask is not
                bool or has another shape.
        """
        vectors = self._vectors(z_e)
        check_mask(mask, tuple(vectors.shape[:-1]))
        with torch.autocast(z_e.device.type, enabled=False):
            e = project(self.project_in, without_padding(vectors, mask).to(working_dtype(vectors, self.codebooks)))
            out = self._quantize(e.unflatten(-1, (self.heads, -1)), mask)
            z_q = project(self.project_out, out.z_q.flatten(-2)).to(z_e.dtype)
        if mask is not None:
            z_q = torch.where(mask[..., None], z_q, 0)
        return out._replace(z_q=channels_back(z_q, self.channel_dim, memory_format(z_e)))

    def decode(self, indices: Int[Tensor, "*shape codes"]) -> Tensor:
        """Look up z_q for indices, including the projection of ``code_dim``.

        Args:
            indices: Indices of codes, (…, heads · levels), integers in 0…K−1; −1 in every head gives a vector of zeros.

        Returns:
            z_q of the codebook's dtype: (B, D, …) for indices (B, …, codes) with ``channel_dim=1``, (…, D) for indices
            (…, codes) with ``channel_dim=-1``.

        Raises:
            InputError: if the last axis is not of ``heads`` · ``levels``, or an index is outside −1…K−1.
        """
        if indices.dim() < 1 or indices.shape[-1] != self.codes_per_vector:
            shape, expected = tuple(indices.shape), f"heads={self.heads}"
            expected += f" · levels={self.levels}" if self.levels > 1 else ""
            raise InputError(f"indices: shape {shape}, the last axis must have {expected}")
        layers = self._layers() if len(self.quantizers) > 1 else self._layers() * self.heads
        by_head = indices.unflatten(-1, (self.heads, self.levels)) if self.levels > 1 else indices
        parts = [layer.decode(part) for layer, part in zip(layers, by_head.unbind(indices.dim() - 1), strict=True)]
        z_q = project(self.project_out, torch.cat(parts, dim=-1))
        return channels_back(torch.where((indices < 0).all(dim=-1, keepdim=True), 0, z_q), self.channel_dim)

    @torch.no_grad()
    def fit_codes(self, z_e: Tensor, batches: int = 1) -> None:
        """Set the codes of each head from encoder vectors; see ``VectorQuantizer.fit_codes``.

        Args:
            z_e: Encoder vectors as for ``forward``, at least one.
            batches: Number of training batches that the vectors come from. Default 1.

        Raises:
            InputError: if z_e has fewer than two axes, not ``dim`` channels at ``channel_dim``, or no vector.
        """
        vectors = self._vectors(z_e)
        e = project(self.project_in, vectors.to(working_dtype(vectors, self.codebooks)))
        parts = e.unflatten(-1, (self.heads, -1))
        groups = [parts] if len(self.quantizers) == 1 else parts.unbind(-2)
        for layer, group in zip(self._layers(), groups, strict=True):
            layer.fit_codes(group, batches)

    def _quantize(self, parts: Tensor, mask: Tensor | None) -> QuantizerOutput:
        """Quantize the heads, (…, heads, C), by the codebook of all or each by its own."""
        if len(self.quantizers) == 1:
            out = self._layers()[0](parts, None if mask is None else mask[..., None].expand(parts.shape[:-1]))
        else:
            out = _join([layer(part, mask) for layer, part in zip(self._layers(), parts.unbind(-2), strict=True)])
        return out._replace(indices=out.indices.flatten(-2)) if self.levels > 1 else out

    def _layers(self) -> list[Quantizer]:
        return [*self._heads()]

    def _heads(self) -> list[VectorQuantizer | ResidualQuantizer]:
        return [layer for layer in self.quantizers if isinstance(layer, VectorQuantizer | ResidualQuantizer)]


def _join(outputs: list[QuantizerOutput]) -> QuantizerOutput:
    """The outputs of all heads as one."""
    stats = {name: torch.stack([out.stats[name] for out in outputs]) for name in outputs[0].stats}
    return QuantizerOutput(
        z_q=torch.stack([out.z_q for out in outputs], dim=-2),
        indices=torch.stack([out.indices for out in outputs], dim=outputs[0].z_q.dim() - 1),
        loss=torch.stack([out.loss for out in outputs]).mean(),
        stats={name: values.sum() if name in _SUMS else values.mean() for name, values in stats.items()},
    )
