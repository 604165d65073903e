"""Residual quantization: each vector by a sum of codes, one from each of several levels."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vqlab.errors import InputError
from vqlab.quantize.codebook_rules import NO_RULE
from vqlab.quantize.output import QuantizerOutput
from vqlab.quantize.projection import project, projections, working_dtype
from vqlab.quantize.quantizer import Quantizer
from vqlab.quantize.row_layout import channels_back, is_recomputed, mean_over, memory_format, without_padding
from vqlab.quantize.transports import code_groups, get_transport, transport
from vqlab.quantize.validation import check_mask, check_sizes
from vqlab.quantize.vector_quantizer import VectorQuantizer

# Statistics that are numbers of codes; of the others, the mean over the levels is taken, or they are computed anew.
_SUMS = ("dead_codes", "restarts")


class ResidualQuantizer(Quantizer):
    """Quantize every vector by a sum of codes: each level quantizes what the levels before it have left.

    With e the vector (after the projection, if ``code_dim`` is set), n = ``levels`` and sg the stop-gradient::

        r₁ = e,   qₗ = the code of level l nearest to rₗ,   rₗ₊₁ = rₗ − qₗ,   z_q = q₁ + … + qₙ
        loss  Σₗ β ‖rₗ − sg[qₗ]‖²   with rₗ = e − sg[q₁ + … + qₗ₋₁]

    With K codes a level a vector has Kⁿ possible values and n log₂ K bits (Zeghidour et al., SoundStream: An End-to-End
    Neural Audio Codec, 2021; Lee et al., Autoregressive Image Generation using Residual Quantization, 2022).

    Gradient. A backward rule gives at level l the map Mₗ from rₗ to qₗ: for the rotation Mₗ = λₗRₗ with
    λₗ = ‖qₗ‖/‖rₗ‖ and Rₗ the rotation from rₗ to qₗ. The residuals have this derivative, too, so the derivative J of
    z_q at e satisfies::

        I − J = (I − Mₙ) ⋯ (I − M₂)(I − M₁),   ∇ₑ = Jᵀ g

    With straight-through, Mₗ = I and ∇ₑ = g for every number of levels; with one level ∇ₑ = M₁ᵀ g. If the residuals had
    no derivative, ∇ₑ would be Σₗ Mₗᵀ g, which is n g for straight-through. With ``joint=True`` the rule acts once, on e
    and z_q as its code: ∇ₑ = Mᵀ g.

    Shapes are those of ``VectorQuantizer``, except for the indices, which have a last axis of ``levels``: with
    ``channel_dim=1`` and z_e (B, D, H, W) they are (B, H, W, levels).

    Args:
        num_codes: K, codes of one codebook, at least 1.
        dim: D, the channels of z_e, at least 1.
        levels: n, number of codes for one vector, at least 1.
        shared: True for one codebook that all levels use, updated once in a step by the residuals of all levels; False
            (default) for one codebook each.
        joint: False (default): the transport acts at each level, as above. True: it acts once, on e and the sum.
        level_dropout: Probability that a sample (first axis of z_e) is quantized by its first m levels only in training
            mode, m uniform in 1…n−1; 0…1, default 0. Increase it if the first levels alone should reconstruct well.
        beam: Candidates that the search keeps at each level in eval mode, at least 1. Default 1: the nearest code of
            each level. More candidates lower ‖e − z_q‖ and take longer; needs ``distance="euclidean"``.
        transport: Name of a backward rule, as in ``VectorQuantizer``. Default ``"rotation"``.
        transport_fraction: As in ``VectorQuantizer``. Default 1.0.
        code_dim: C, the channels of a code, at least 1. Default None: C = D without a projection.
        channel_dim: Axis of the channels: 1 (default) or −1.
        seed: Seed as in ``VectorQuantizer``; without ``shared``, level l has seed + l. Default 0.
        **options: Other arguments of ``VectorQuantizer``, except ``assignment`` and ``rule``.

    Attributes:
        quantizers: The ``VectorQuantizer`` of each level, or the one of all levels.
        num_codes: As the argument.
        dim: As the argument.
        levels: As the argument.
        joint: As the argument; can be changed between steps.
        level_dropout: As the argument; can be changed between steps.
        beam: As the argument; can be changed between steps.
        channel_dim: As the argument.
        project_in: Linear layer D → C, or ``nn.Identity`` without ``code_dim``.
        project_out: Linear layer C → D, or ``nn.Identity`` without ``code_dim``.

    Raises:
        InputError: if a size is below 1, ``level_dropout`` is outside 0…1, the transport is a training-time value,
            ``joint`` is combined with a rule that depends on the codes of other vectors, ``beam`` above 1 with
            ``distance="cosine"``, or an argument of ``VectorQuantizer`` is out of its range.

    Example:
        >>> import torch, vqlab
        >>> quantizer = vqlab.ResidualQuantizer(num_codes=16, dim=8, levels=3)
        >>> out = quantizer(torch.randn(32, 8, 4, 4))
        >>> out.z_q.shape, out.indices.shape, quantizer.bits
        (torch.Size([32, 8, 4, 4]), torch.Size([32, 4, 4, 3]), 12.0)
    """

    def __init__(
        self,
        num_codes: int,
        dim: int,
        levels: int,
        *,
        shared: bool = False,
        joint: bool = False,
        level_dropout: float = 0.0,
        beam: int = 1,
        transport: str = "rotation",
        transport_fraction: float = 1.0,
        code_dim: int | None = None,
        channel_dim: int = 1,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        channels = dim if code_dim is None else code_dim
        check_sizes(num_codes=num_codes, dim=dim, levels=levels, beam=beam, code_dim=channels)
        if not 0 <= level_dropout <= 1:
            raise InputError(f"level_dropout={level_dropout}: must be between 0 and 1")
        if options.get("assignment", "nearest") != "nearest":
            raise InputError(f"assignment={options['assignment']!r}: residual quantization needs 'nearest'")
        if options.get("rule", NO_RULE) not in (None, NO_RULE):
            raise InputError(f"rule={options['rule']!r}: needs one code for each vector; use rule={NO_RULE!r}")
        if beam > 1 and options.get("distance", "euclidean") != "euclidean":
            raise InputError(f"beam={beam}: needs Euclidean distances; use distance='euclidean' or beam=1")
        _check_rule(transport, joint=joint)
        self.num_codes, self.dim, self.levels, self.channel_dim = num_codes, dim, levels, channel_dim
        self.joint, self.level_dropout, self.beam = joint, level_dropout, beam
        self.project_in, self.project_out = projections(dim, code_dim)
        self.quantizers = nn.ModuleList(
            VectorQuantizer(
                num_codes, channels, transport=transport, transport_fraction=transport_fraction, channel_dim=-1,
                seed=seed + level, **options,
            )
            for level in range(1 if shared else levels)
        )  # fmt: skip

    @property
    def codes_per_vector(self) -> int:
        """Number of indices for one vector, ``levels``."""
        return self.levels

    @property
    def codebooks(self) -> Float[Tensor, "levels K C"]:
        """The codes of each level, (levels, num_codes, C)."""
        return torch.stack([layer.codebook for layer in self._layers()])

    @property
    def transport(self) -> str:
        """Name of the gradient transport; can be changed between steps."""
        return self._distinct_layers()[0].transport

    @transport.setter
    def transport(self, name: str) -> None:
        _check_rule(name, joint=self.joint)
        for layer in self._distinct_layers():
            layer.transport = name

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> QuantizerOutput:
        """Quantize z_e; in training mode also initialise and update the codebooks.

        Args:
            z_e: Encoder vectors, as for ``VectorQuantizer``.
            mask: False where a vector is padding, bool, of the shape of the indices without ``levels``. Default None.

        Returns:
            ``QuantizerOutput`` as of ``VectorQuantizer``, with a last axis of ``levels`` in the indices; −1 at a level
            that ``level_dropout`` left out. The loss is the sum over the levels. ``relative_error``, ``z_e_norm`` and
            ``code_norm`` are those of e and z_q before the projection back, the number of dead codes and of restarts
            are sums over the codebooks, all other statistics are means over the levels.

        Raises:
            InputError: if z_e has fewer than two axes or not ``dim`` channels at ``channel_dim``, or the mask is not
                bool or has another shape.
        """
        vectors = self._vectors(z_e)
        check_mask(mask, tuple(vectors.shape[:-1]))
        with torch.autocast(z_e.device.type, enabled=False):
            e = project(self.project_in, without_padding(vectors, mask).to(working_dtype(vectors, self.books[0].codes)))
            kept = self._kept_levels(e, mask)
            chosen = self._beam_search(e) if self.beam > 1 and not self.training else None
            outputs = self._quantize(e, kept, chosen)
            output_rows = self._transported(e, outputs, kept)
            z_q = project(self.project_out, output_rows)
            stats = self._statistics(e.detach(), outputs)
        if mask is not None:
            z_q = torch.where(mask[..., None], z_q, 0)
        return QuantizerOutput(
            channels_back(z_q.to(z_e.dtype), self.channel_dim, memory_format(z_e)),
            torch.stack([out.indices for out in outputs], dim=-1),
            torch.stack([out.loss for out in outputs]).sum(),
            stats,
        )

    def decode(self, indices: Int[Tensor, "*shape levels"]) -> Tensor:
        """Look up z_q for indices, including the projection of ``code_dim``.

        Args:
            indices: Indices of codes, (…, levels) or the first levels only, (…, m) with m at most ``levels``, integers
                in 0…K−1; −1 leaves a level out, −1 in every level gives a vector of zeros.

        Returns:
            z_q of the codebook's dtype: (B, D, …) for indices (B, …, levels) with ``channel_dim=1``, (…, D) for indices
            (…, levels) with ``channel_dim=-1``.

        Raises:
            InputError: if the last axis is not of 1…``levels``, or an index is outside −1…K−1.
        """
        if indices.dim() < 1 or not 1 <= indices.shape[-1] <= self.levels:
            raise InputError(f"indices: shape {tuple(indices.shape)}, the last axis must have 1…{self.levels} levels")
        codes = [layer.decode(part) for layer, part in zip(self._layers(), indices.unbind(-1), strict=False)]
        total = torch.zeros_like(codes[0])
        for code in codes:
            total = total + code
        z_q = project(self.project_out, total)
        return channels_back(torch.where((indices < 0).all(dim=-1, keepdim=True), 0, z_q), self.channel_dim)

    @torch.no_grad()
    def fit_codes(self, z_e: Tensor, batches: int = 1) -> None:
        """Set the codes of each level from the residuals of encoder vectors; see ``VectorQuantizer.fit_codes``.

        With ``shared``, the codes are those of the first level's vectors.

        Args:
            z_e: Encoder vectors as for ``forward``, at least one.
            batches: Number of training batches that the vectors come from. Default 1.

        Raises:
            InputError: if z_e has fewer than two axes, not ``dim`` channels at ``channel_dim``, or no vector.
        """
        vectors = self._vectors(z_e)
        residual = project(self.project_in, vectors.to(working_dtype(vectors, self.books[0].codes)))
        for layer in self._distinct_layers():
            layer.fit_codes(residual, batches)
            residual = residual - layer.decode(layer.nearest(residual)[0][..., 0])

    def extra_repr(self) -> str:
        """Describe the layer for ``print(module)``.

        Returns:
            ``num_codes``, ``dim``, ``levels``, and every other option that differs from its default.
        """
        shown = {"num_codes": self.num_codes, "dim": self.dim, "levels": self.levels}
        defaults = {"joint": False, "level_dropout": 0.0, "beam": 1, "channel_dim": 1}
        changed = {name: getattr(self, name) for name, value in defaults.items() if getattr(self, name) != value}
        shared = {"shared": True} if self._is_shared() else {}
        return ", ".join(f"{name}={value!r}" for name, value in {**shown, **shared, **changed}.items())

    def _quantize(self, e: Tensor, kept: list[Tensor | None], chosen: Tensor | None) -> list[QuantizerOutput]:
        """The output of each level for its residual, whose derivative at e is the identity."""
        residual, outputs, residuals = e, [], []
        for level, layer in enumerate(self._layers()):
            given = None if chosen is None else chosen[..., level]
            out = layer(residual, kept[level], indices=given, update=not self._is_shared())
            residuals.append(residual.detach())
            residual = residual - out.z_q.detach()
            outputs.append(out)
        if self._is_shared() and self.training:
            indices = torch.stack([out.indices for out in outputs])
            restarts = self._distinct_layers()[0].update_codebook(torch.stack(residuals), indices)
            outputs[0].stats["restarts"] = restarts
        return outputs

    def _transported(self, e: Tensor, outputs: list[QuantizerOutput], kept: list[Tensor | None]) -> Tensor:
        """The sum of the codes, with the derivative of the transport."""
        total, residual = torch.zeros_like(e), e
        for out, rows in zip(outputs, kept, strict=True):
            code = out.z_q.detach()
            moved = code if self.joint else self._transport(residual, code, out.indices)
            if rows is not None:
                moved = torch.where(rows[..., None], moved, 0)
            total = total + moved
            residual = residual - moved
        return self._transport(e, total) if self.joint else total

    def _transport(self, e: Tensor, q: Tensor, indices: Tensor | None = None) -> Tensor:
        """The values q with the derivative of the transport at e, both (…, C)."""
        layer = self._distinct_layers()[0]
        groups = None
        if indices is not None and get_transport(layer.transport).by_code:
            slots = indices.reshape(-1)
            groups = code_groups(slots.clamp_min(0), self.num_codes, slots >= 0)
        rows = transport(
            e.reshape(-1, e.shape[-1]), q.reshape(-1, q.shape[-1]), layer.transport,
            fraction=layer.transport_fraction, groups=groups,
        )  # fmt: skip
        return rows.view_as(e)

    def _kept_levels(self, e: Tensor, mask: Bool[Tensor, "*shape"] | None) -> list[Tensor | None]:
        """The vectors that each level quantizes, in the shape of the mask; None for all."""
        if not (self.training and self.level_dropout and self.levels > 1):
            return [mask] * self.levels
        book, like = self.books[0], torch.empty(len(e), device=e.device)
        draw = book.noise(like, uniform=True, recomputed=is_recomputed())
        # A draw below the probability is uniform between 0 and it, and so says how many levels are kept.
        number = 1 + (draw / self.level_dropout * (self.levels - 1)).long()
        kept = torch.where(draw < self.level_dropout, number.clamp_max(self.levels - 1), self.levels)
        kept = kept.view(-1, *[1] * (e.dim() - 2)).expand(e.shape[:-1])
        return [kept > level if mask is None else (kept > level) & mask for level in range(self.levels)]

    @torch.no_grad()
    def _beam_search(self, e: Tensor) -> Int[Tensor, "*shape levels"]:
        """The codes of all levels whose sum is nearest to e among the candidates that the search keeps."""
        rows = e.detach().reshape(-1, e.shape[-1])
        residuals, paths = rows[:, None], torch.zeros(rows.shape[0], 1, 0, dtype=torch.int64, device=e.device)
        for layer in self._layers():
            found, distances = layer.nearest(residuals, min(self.beam, self.num_codes))
            best = distances.flatten(1).topk(min(self.beam, distances[0].numel()), largest=False).indices
            parents, codes = best // found.shape[2], found.flatten(1).gather(1, best)
            steps = torch.cat([paths.gather(1, parents[..., None].expand(-1, -1, paths.shape[2])), codes[..., None]], 2)
            origin = residuals.gather(1, parents[..., None].expand(-1, -1, rows.shape[1]))
            residuals, paths = origin - layer.decode(codes), steps
        return paths[:, 0].reshape(*e.shape[:-1], self.levels)

    def _statistics(self, e: Tensor, outputs: list[QuantizerOutput]) -> dict[str, Tensor]:
        by_level = {name: torch.stack([out.stats[name] for out in outputs]) for name in outputs[0].stats}
        stats = {name: values.sum() if name in _SUMS else values.mean() for name, values in by_level.items()}
        q = torch.stack([out.z_q.detach() for out in outputs]).sum(dim=0)
        lengths, squares = torch.linalg.vector_norm(e, dim=-1), (e - q).square().sum(dim=-1)
        rows = (outputs[0].indices >= 0) & (lengths < torch.inf)
        stats["relative_error"] = mean_over((squares / lengths.square().clamp_min(1e-12)).flatten(), rows.flatten())
        stats["code_norm"] = mean_over(torch.linalg.vector_norm(q, dim=-1).flatten(), rows.flatten())
        # Levels quantize the same vectors; the first one saw them as they are.
        return {**stats, "z_e_norm": outputs[0].stats["z_e_norm"], "non_finite": outputs[0].stats["non_finite"]}

    def _is_shared(self) -> bool:
        return len(self.quantizers) < self.levels

    def _distinct_layers(self) -> list[VectorQuantizer]:
        return [layer for layer in self.quantizers if isinstance(layer, VectorQuantizer)]

    def _layers(self) -> list[VectorQuantizer]:
        """The layer of each level."""
        layers = self._distinct_layers()
        return layers * self.levels if self._is_shared() else layers


def _check_rule(name: str, *, joint: bool) -> None:
    entry = get_transport(name)
    if entry.backward is None:
        raise InputError(
            f"transport={name!r}: is a training-time value, which the residuals cannot follow; use a backward rule, "
            "for example 'rotation'"
        )
    if joint and entry.by_code:
        raise InputError(f"transport={name!r} with joint=True: the rule needs a single code; use joint=False")
