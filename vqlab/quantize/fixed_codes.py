"""The common part of quantizers whose codes are fixed by a rule: every scalar of a vector has a few fixed values."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vqlab.errors import InputError
from vqlab.quantize.assignment import SeenRows, row_statistics, see_rows
from vqlab.quantize.display import summary_html
from vqlab.quantize.output import QuantizerOutput
from vqlab.quantize.projection import project, projections
from vqlab.quantize.quantizer import Quantizer
from vqlab.quantize.row_layout import channels_back, memory_format
from vqlab.quantize.transports import (
    RowLengths,
    Rows,
    code_groups,
    get_transport,
    transport_and_error,
    undefined_rows,
)
from vqlab.quantize.usage import squared_distances, usage_without_table
from vqlab.quantize.validation import (
    check_choices,
    check_fraction,
    check_indices,
    check_mask,
    check_sizes,
)

_LARGEST_TABLE = 1 << 20
_LARGEST_CODE_SPACE = 1 << 62


class FixedCodesQuantizer(Quantizer, ABC):
    """Quantize each of C scalars to one of a few fixed values: no table of codes, no search, nothing to update.

    A subclass says into which range the scalars are brought, which value each of them takes and what the loss is.
    Shapes, masks, dtypes and the returned value are those of ``VectorQuantizer``; the statistics have its names. There
    are linear projections dim → C → dim where C differs from ``dim``, and none where it does not. Codes are float32, or
    float64 with projections in float64. Vectors that are not finite count in ``stats["non_finite"]`` only: they take
    no part in the loss and in the other statistics, and get the gradient 0.

    Args:
        radices: Number of values of each of the C scalars.
        dim: D, the channels of z_e, at least 1.
        transport: Name of the gradient transport from a code to the scalars that were rounded to it.
        transport_fraction: The part of the way from vector to code that it sees, in 0…1.
        channel_dim: Axis of the channels: 1 or −1.

    Attributes:
        num_codes: Number of codes, the product of the radices.
        dim: As the argument.
        code_dim: C, the scalars of a code.
        transport: As the argument; can be changed between steps.
        transport_fraction: As the argument; can be changed between steps.
        channel_dim: As the argument.
        radices: The radices, int64, (C,).
        places: What one step of each scalar adds to the index, int64, (C,).
        project_in: Linear layer D → C, or ``nn.Identity`` if C = D.
        project_out: Linear layer C → D, or ``nn.Identity`` if C = D.

    Raises:
        InputError: if ``dim`` is below 1, there are more than 2⁶² codes, the transport is unknown or a training-time
            value, or ``transport_fraction`` or ``channel_dim`` is out of range.
    """

    radices: Tensor
    places: Tensor

    def __init__(
        self, radices: Sequence[int], dim: int, *, transport: str, transport_fraction: float, channel_dim: int
    ) -> None:
        super().__init__()
        check_sizes(dim=dim)
        check_choices(channel_dim=channel_dim)
        _check_transport(transport)
        check_fraction(transport_fraction, transport, True)
        self.num_codes = math.prod(radices)
        if self.num_codes > _LARGEST_CODE_SPACE:
            raise InputError(f"{self.bits:.4g} bits: must be at most 62, so that an index fits into int64")
        self.dim, self.code_dim, self.channel_dim = dim, len(radices), channel_dim
        self.transport, self.transport_fraction = transport, transport_fraction
        self.project_in, self.project_out = projections(dim, None if dim == len(radices) else len(radices))
        self._counts = tuple(radices)
        self.register_buffer("radices", torch.tensor(radices))
        self.register_buffer("places", torch.tensor(self._places(radices)))

    @property
    def codebooks(self) -> Float[Tensor, "1 K C"]:
        """All codes as the only codebook, (1, num_codes, C); refused as ``codebook``."""
        return self.codebook[None]

    @property
    def codebook(self) -> Float[Tensor, "K C"]:
        """All codes, (num_codes, C), computed at each access; refused above 2¹⁶ codes."""
        if self.num_codes > _LARGEST_TABLE:
            raise InputError(
                f"codebook: a table of {self.num_codes:,} codes; at most {_LARGEST_TABLE:,} are written out, look up "
                "single codes with decode(indices)"
            )
        return self._codes(torch.arange(self.num_codes, device=self.radices.device))

    def extra_repr(self) -> str:
        """Describe the layer for ``print(module)``.

        Returns:
            The arguments without a default, ``transport``, and every other argument that differs from its default.
        """
        parameters = inspect.signature(type(self)).parameters.values()
        values = {parameter.name: getattr(self, parameter.name) for parameter in parameters}
        always = {parameter.name for parameter in parameters if parameter.default is inspect.Parameter.empty}
        return ", ".join(
            f"{parameter.name}={_text(values[parameter.name])}"
            for parameter in parameters
            if parameter.name in {*always, "transport"} or values[parameter.name] != parameter.default
        )

    def _repr_html_(self) -> str:
        title = f"{type(self).__name__}: {self.num_codes:,} codes × {self.code_dim}, transport {self.transport}"
        sizes = [f"{self.dim} → {self.code_dim}", f"{self.code_dim} → {self.dim}"]
        projected = ", ".join(sizes) if self.dim != self.code_dim else "none"
        return summary_html(title, {"bits of a vector": f"{self.bits:.4g}", "projections": projected})

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> QuantizerOutput:
        """Quantize z_e; the layer has no state that a step changes.

        Args:
            z_e: Encoder vectors, floating point: (B, D, …) with ``channel_dim=1``, (…, D) with ``channel_dim=-1``.
            mask: False where a vector is padding, bool, of the shape of the indices. Such a vector takes no part in
                loss and statistics; its index is −1, its z_q and its gradient are 0. Default None.

        Returns:
            ``QuantizerOutput`` as of ``VectorQuantizer``. The lengths and errors of the statistics are those of the
            scalars after projection and bounding, or normalisation.

        Raises:
            InputError: if z_e has fewer than two axes or not ``dim`` channels at ``channel_dim``, or the mask is not
                bool or not of the shape of the indices.
        """
        vectors = self._vectors(z_e)
        check_mask(mask, tuple(vectors.shape[:-1]))
        unmasked = None if mask is None else mask.reshape(-1)
        with torch.autocast(z_e.device.type, enabled=False):
            projected, seen = self._project(vectors, unmasked)
            e, digits = self._assign(projected)
            q, indices = self._values(digits).to(e.dtype), (digits * self.places).sum(dim=1)
            output_rows, stats = self._transport(e, q, indices, seen, unmasked)
            loss = self._loss(e, q, seen.rows)
            z_q = project(self.project_out, output_rows)
        if unmasked is not None:
            z_q, indices = torch.where(unmasked[:, None], z_q, 0), torch.where(unmasked, indices, -1)
        z_q = channels_back(z_q.to(z_e.dtype).reshape(vectors.shape), self.channel_dim, memory_format(z_e))
        return QuantizerOutput(z_q, indices.reshape(vectors.shape[:-1]), loss, stats)

    def decode(self, indices: Int[Tensor, " *shape"]) -> Tensor:
        """Compute z_q for indices, including the projection.

        Args:
            indices: Indices of codes, integers in 0…K−1, for example (B, H, W); −1 gives a vector of zeros, as for a
                masked vector in ``forward``.

        Returns:
            z_q of the codes' dtype: (B, D, …) for indices (B, …) with ``channel_dim=1``, (…, D) for indices (…) with
            ``channel_dim=-1``. It equals the z_q of the forward pass that returned the indices.

        Raises:
            InputError: if an index is outside −1…K−1.
        """
        check_indices(indices, self.num_codes)
        z_q = project(self.project_out, self._codes(indices.clamp_min(0)))
        return channels_back(torch.where((indices < 0)[..., None], 0, z_q), self.channel_dim)

    def bypass(self, z_e: Tensor) -> Tensor:
        """Pass z_e through projections and bounding without quantization.

        Args:
            z_e: Encoder vectors as for ``forward``.

        Returns:
            What ``forward`` returns as z_q if no scalar is rounded to its value.

        Raises:
            InputError: if z_e has fewer than two axes or not ``dim`` channels at ``channel_dim``.
        """
        vectors = self._vectors(z_e)
        with torch.autocast(z_e.device.type, enabled=False):
            e, _ = self._assign(self._project(vectors, None)[0])
            z = project(self.project_out, e).to(z_e.dtype).reshape(vectors.shape)
        return channels_back(z, self.channel_dim, memory_format(z_e))

    @staticmethod
    @abstractmethod
    def _places(radices: Sequence[int]) -> list[int]:
        """What one step of each scalar adds to the index."""

    @abstractmethod
    def _assign(self, projected: Float[Tensor, "N C"]) -> tuple[Float[Tensor, "N C"], Int[Tensor, "N C"]]:
        """The scalars e that are rounded, with a gradient, and the number of the value of each, in 0…radix − 1."""

    @abstractmethod
    def _values(self, digits: Int[Tensor, "*rows C"]) -> Float[Tensor, "*rows C"]:
        """The values with these numbers, of the codes' dtype."""

    @abstractmethod
    def _loss(self, e: Rows, q: Rows, rows: Bool[Tensor, " N"]) -> Float[Tensor, ""]:
        """The loss over the rows that count."""

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *arguments: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        saved = state_dict.get(f"{prefix}radices")
        if saved is not None and not saved.is_meta and tuple(saved.tolist()) != self._counts:
            arguments[-1].append(f"{prefix}radices: {saved.tolist()}, but this layer has {list(self._counts)}")

    def _code_dtype(self) -> torch.dtype:
        """Float32, or float64 with projections in float64."""
        weights = [parameter.dtype for parameter in self.project_out.parameters()]
        return torch.promote_types(weights[0], torch.float32) if weights else torch.float32

    def _codes(self, indices: Int[Tensor, " *shape"]) -> Tensor:
        return self._values(indices[..., None] // self.places % self.radices)

    def _project(self, vectors: Tensor, unmasked: Tensor | None) -> tuple[Tensor, SeenRows]:
        """The projected rows (N, C), 0 where a vector does not count, and which vectors count."""
        rows = vectors.reshape(-1, self.dim).to(torch.promote_types(vectors.dtype, self._code_dtype()))
        given = see_rows(rows.detach(), unmasked)
        # Before the projection too: the gradient of its weights would be 0 · NaN.
        projected = project(self.project_in, torch.where(given.rows[:, None], rows, 0))
        finite = given.finite & see_rows(projected.detach()).finite
        seen = SeenRows(given.lengths, finite, finite if unmasked is None else finite & unmasked)
        return torch.where(seen.rows[:, None], projected, 0), seen

    def _transport(
        self, e: Rows, q: Rows, indices: Tensor, seen: SeenRows, unmasked: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The codes with the gradient transport to e, and the statistics of the batch."""
        lengths, code_lengths = (torch.linalg.vector_norm(rows, dim=1) for rows in (e.detach(), q))
        known = RowLengths(lengths, code_lengths, squared_distances(e.detach(), q))
        kind, fraction = self.transport, self.transport_fraction
        undefined = undefined_rows(e.detach(), q, kind, fraction, known)
        perplexity, used = usage_without_table(indices, seen.rows)
        stats = {
            "perplexity": perplexity,
            "utilisation": used.float() / self.num_codes,
            "dead_codes": (self.num_codes - used).float(),
            **row_statistics(known, undefined, seen, unmasked),
            "restarts": torch.zeros((), device=e.device),
        }
        groups = None
        if get_transport(kind).by_code:
            # Numbers below N with the same order as the indices, so that no table of all codes is needed.
            ranks = torch.searchsorted(indices.sort().values, indices)
            groups = code_groups(ranks, indices.shape[0], seen.rows)
        z_q, _ = transport_and_error(e, q, kind, known, fraction=fraction, undefined=undefined, groups=groups)
        return z_q, stats


def _check_transport(name: str) -> None:
    if get_transport(name).backward is None:
        raise InputError(
            f"transport={name!r}: a training-time value, whose gradient also moves the codes, and these codes are "
            "fixed; use 'straight_through' or another backward rule"
        )


def _text(value: Any) -> str:
    return repr(int(value) if isinstance(value, float) and value.is_integer() else value)
