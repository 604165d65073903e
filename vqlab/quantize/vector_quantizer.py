"""The vector-quantization layer: shapes, axes and state around the functions of this package."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vqlab.errors import InputError
from vqlab.quantize.assignment import Assignment, SeenRows, assign, assign_by_kernels, see_rows
from vqlab.quantize.codebook import Codebook
from vqlab.quantize.codebook_rules import NO_RULE, CodebookRule, build_rule, check_rule
from vqlab.quantize.display import summary_html
from vqlab.quantize.gumbel import gumbel_softmax
from vqlab.quantize.kernels import kernels_for
from vqlab.quantize.loss_terms import code_entropies, mean_square, non_orthogonality
from vqlab.quantize.output import QuantizerOutput
from vqlab.quantize.projection import project, projections, working_dtype
from vqlab.quantize.quantizer import Quantizer
from vqlab.quantize.row_layout import (
    channels_back,
    is_recomputed,
    memory_format,
    without_padding,
)
from vqlab.quantize.rule_batch import RuleBatch, RuleStep
from vqlab.quantize.search import counts_and_sums, k_nearest_codes, nearest_codes, similarities
from vqlab.quantize.summaries import codebook_summary
from vqlab.quantize.transports import code_groups, get_transport, transport, transport_and_error
from vqlab.quantize.validation import (
    check_choices,
    check_combination,
    check_fraction,
    check_given_indices,
    check_indices,
    check_mask,
    check_ranges,
    check_sizes,
    check_weights,
)


class VectorQuantizer(Quantizer):
    """Replace every vector by its nearest code, with a selectable gradient, update and initialisation of the codes.

    Shapes. With ``channel_dim=1`` the input z_e is (B, D, …): images (B, D, H, W), sequences (B, D, T), volumes
    (B, D, T, H, W) or plain vectors (B, D). With ``channel_dim=-1`` it is (…, D). Every position is one vector of
    D = ``dim`` channels: (32, 64, 8, 8) is quantized as 2,048 vectors of 64 channels; z_q is (32, 64, 8, 8), indices
    are (32, 8, 8), and the loss is a scalar. The statistics ``out.stats`` are ``perplexity``, ``utilisation``,
    ``dead_codes``, ``relative_error``, ``z_e_norm``, ``code_norm``, ``fallback_fraction``, ``non_finite`` and
    ``restarts``; ``vqlab.QuantizerOutput`` defines them.

    Equations. For each vector e (after the projection, if ``code_dim`` is set) with the codes c₁…c_K, and sg the
    stop-gradient::

        index     i = argminₖ ‖e − cₖ‖     or, with distance="cosine", argmaxₖ e·cₖ / (‖e‖ ‖cₖ‖)
        value     q = cᵢ
        loss      β ‖e − sg[q]‖² [+ ‖sg[e] − q‖² with update="gradient"], means over all elements,
                  [+ the terms of entropy_weight, diversity_weight and orthogonality_weight]
        EMA       Nₖ ← γ Nₖ + (1 − γ) nₖ,   mₖ ← γ mₖ + (1 − γ) sₖ,   cₖ = mₖ / Nₖ
        gradient  ∇ₑ = λ Rᵀ g,   λ = ‖q‖ / ‖e‖,   R the rotation from e/‖e‖ to q/‖q‖

    Here nₖ is the number of vectors e of code k in the batch, sₖ their sum, γ the decay, and g the gradient at z_q.
    The EMA is that of ``update="ema"``, with Laplace smoothing of Nₖ (``vqlab.quantize.codebook.Codebook``). The
    gradient is that of ``transport="rotation"``; ``vqlab.quantize.transport_gradient`` has all others.

    State. In training mode each forward pass updates the codebook: initialisation by the first batch, EMA step, and
    restarts. In eval mode and after ``freeze()`` nothing changes. Vectors that are not finite take no part in the
    update. A pass that activation checkpointing repeats uses the codes of the first one and updates nothing. Under
    torch.distributed the counts and sums of all ranks are joined, so all ranks hold the same codebook. Random numbers
    depend on ``seed`` and the number of training steps only; both are restored by ``load_state_dict``.

    Precision. The layer computes in float32, or in float64 if z_e or the codes are, also under autocast; z_q has
    z_e's dtype and memory format. Codes and EMA stay in float32 if the module is converted to bfloat16 or float16.

    Sources. Codebook, loss and EMA: van den Oord, Vinyals and Kavukcuoglu, Neural Discrete Representation Learning,
    2017. Rotation: Fifty et al., Restructuring Vector Quantization with the Rotation Trick, 2024. Gumbel-softmax:
    Jang, Gu and Poole, Categorical Reparameterization with Gumbel-Softmax, 2016. Restarts: Dhariwal et al., Jukebox: A
    Generative Model for Music, 2020. Lower code dimension: Yu et al., Vector-quantized Image Modeling with Improved
    VQGAN, 2021.

    Args:
        num_codes: K, the number of codes, at least 1. More codes lower the reconstruction error as long as they are
            used; look at ``stats["perplexity"]`` over an epoch.
        dim: D, the channels of z_e, at least 1.
        transport: How the gradient passes the quantizer; a name of ``vqlab.quantize.transport_names()``.
            ``"rotation"`` (default): ∇ₑ = λRᵀg. ``"rodrigues"``: the same map in another form.
            ``"straight_through"``: ∇ₑ = g. ``"rotation_unscaled"``: ∇ₑ = Rᵀg, and ``"rescale"``: ∇ₑ = λg, the two
            factors of the rotation alone. ``"rotation_inverse_distance"``: ∇ₑ = Rᵀg / (8‖q − e‖²). ``"dynamic"``:
            ∇ₑ = wg with w = min ‖e′ − q‖² / ‖e − q‖² over the vectors e′ of the same code. ``"reflection"``:
            ∇ₑ = λMg with the Householder reflection M of e/‖e‖ to q/‖q‖, for comparison. ``"nsvq"``, ``"diveq"``,
            ``"diveq_released"`` and ``"diveq_detach"``: in training mode the decoder receives the differentiable value
            e + ‖q − e‖ d̂ instead of the code, with d̂ a random direction (nsvq) or nearly that of q − e (diveq, with
            noise as published, as in the code that its authors released, or without noise).
            Add others with ``vqlab.quantize.register_backward`` or ``register_forward``.
        transport_fraction: t, the part of the way from e to q that a backward rule sees, in 0…1: the gradient is that
            of a code at e + t (q − e). Default 1.0: the rule itself; with 0 ``"rotation"`` is straight-through.
            Decrease it if a rotation reconstructs worse than straight-through, as it can where the angles between
            vectors and codes are large. Without effect on ``"straight_through"``; training-time values (nsvq and
            diveq) need 1.
        assignment: How a code is selected. ``"nearest"`` (default), or ``"gumbel"``: in training mode a code is
            sampled with probabilities softmaxₖ(aₖ), with aₖ = −‖e − cₖ‖² or the cosine, and e and the codes receive
            the gradient of the mixture Σₖ wₖ cₖ, w = softmax((a + Gumbel noise) / temperature). It holds an N×K
            matrix, needs ``update="gradient"`` and ``transport="straight_through"``, and selects the nearest code in
            eval mode.
        distance: What nearest means. ``"euclidean"`` (default), or ``"cosine"``, which ignores the lengths of e and
            of the codes in the selection; the codes keep their lengths.
        update: How codes are trained. ``"ema"`` (default): by moving average, without an optimizer. ``"gradient"``:
            the codes are a parameter, trained by the codebook term of the loss; add ``quantizer.parameters()`` to the
            optimizer. ``assignment="gumbel"`` needs ``"gradient"``.
        init: First values of the codes. ``"kmeans"`` (default): 10 iterations of k-means on the first training batch.
            ``"data"``: random vectors of the first training batch. ``"uniform"``: U(−1/K, 1/K). ``"normal"``: N(0, 1),
            which often leads to codebook collapse without restarts. If the first batch has fewer than K vectors,
            vectors are repeated with a little noise.
        restart_every: Training steps between two checks for dead codes, at least 0; 0 disables restarts. Default 20.
            Increase it if there are few vectors per code between two checks, where used codes can be below the share
            by chance.
        restart_share: A code is dead if, since the last check, it received fewer than this share of the mean number of
            vectors per code; in 0…1, default 0.1. A dead code is set to a random vector of the batch, whatever the
            ``update``.
        code_dim: C, the channels of a code, at least 1. Default None: C = D without a projection. If set, one linear
            layer maps D to C before the search and another maps C to D after it. A low value (Yu et al. use 8 and
            32) can increase the number of used codes.
        beta: β, weight of the commitment term, at least 0. Default 0.25. Increase it if the encoder's vectors move
            away from their codes (``stats["relative_error"]`` grows).
        decay: γ of the EMA, above 0 and below 1. Default 0.99. Decrease it if codes lag behind the encoder; increase
            it if batches have few vectors per code. Without effect on the codes with ``update="gradient"``.
        channel_dim: Axis of the channels: 1 (default) or −1.
        hard: With ``assignment="gumbel"`` in training mode: True (default) returns the sampled code with the gradient
            of the softmax mixture, False returns the mixture. Otherwise without effect.
        temperature: Temperature τ of the Gumbel-softmax and of the probabilities of the entropy terms, above 0.
            Default 1.0. The attribute of the same name can be changed between steps, for example to decrease it
            during training. Otherwise without effect.
        entropy_weight: Weight of the mean entropy of a vector's code probabilities, softmaxₖ(−‖e − cₖ‖² / τ), at
            least 0. Default 0. Increase it so that vectors keep away from the borders between codes.
        diversity_weight: Weight of log K minus the entropy of the mean probabilities of the batch, at least 0. Default
            0. Increase it so that more codes are used. Each of these two terms holds an N×K matrix.
        orthogonality_weight: Weight of the mean squared cosine between two codes, at least 0. Default 0; needs
            ``update="gradient"``.
        codes_from: Function of the codes, (K, C) → (K, C), whose result the layer uses in their place, in search,
            z_q and ``decode``; a module is registered and trains with the layer. Default None: the codes. For example
            a function that moves or removes codes, or ``nn.Linear(C, C)`` with ``update="gradient"`` and codes that
            do not train, as in Zhu et al., Addressing Representation Collapse in Vector Quantized Models with One
            Linear Layer, 2024. The attribute of the same name can be changed between steps.
        rule: What a publication adds to the above, a name of ``vqlab.quantize.rule_names()``, or a ``CodebookRule``
            made for these codes. Default ``"none"``. ``"cvq"`` moves rarely used codes to encoder vectors.
            ``"region"`` draws codes without vectors to where vectors are dense, and ``"wasserstein"`` the moments of
            the codes to those of the vectors, each by a term of the loss with ``update="gradient"``. ``"sinkhorn"``
            assigns codes so that all are used nearly equally. ``"ibq"`` and ``"sq_vae"`` give the gradient to all
            codes, by a softmax and by random codes with a learned variance. A rule acts in training mode only. Add
            others with ``vqlab.quantize.register_rule``.
        rule_weight: Weight of the term that the rule adds to the loss, at least 0. Default None: that of the
            publication. Rules without a term need None.
        exact: Whether the nearest code is found in all cases, and the lowest index among equal codes: for vectors and
            codes far from the origin, and for codes that differ by less than the rounding of float32, which are
            compared in float64 (the latter not on an accelerator or in a compiled or exported graph). Default True;
            the search takes about 5 % longer with K = 512. False leaves such cases to rounding, as version 0.1 did.
        seed: Seed of initialisation, restarts and noise. Default 0. The projections of ``code_dim`` are initialised
            from torch's global generator.

    Attributes:
        num_codes: K.
        dim: D.
        transport: Name of the gradient transport; can be changed between steps.
        transport_fraction: As the argument; can be changed between steps.
        assignment: As the argument.
        distance: As the argument, for the search.
        beta: As the argument; can be changed between steps.
        channel_dim: As the argument.
        hard: As the argument.
        temperature: As the argument; can be changed between steps.
        entropy_weight: As the argument; can be changed between steps.
        diversity_weight: As the argument; can be changed between steps.
        orthogonality_weight: As the argument; can be changed between steps.
        codes_from: As the argument; can be changed between steps.
        rule: The ``CodebookRule``, or None; its buffers and parameters are part of the layer's state.
        rule_weight: As the argument; can be changed between steps.
        project_in: Linear layer D → C, or ``nn.Identity`` without ``code_dim``.
        project_out: Linear layer C → D, or ``nn.Identity`` without ``code_dim``.
        book: The ``Codebook``, with codes, EMA counts and sums, and the settings of update, init and restarts.

    Raises:
        InputError: if ``num_codes``, ``dim`` or ``code_dim`` is below 1, a named value is unknown, ``decay``,
            ``beta``, ``temperature``, ``restart_every``, ``restart_share`` or ``transport_fraction`` is out of range,
            ``transport_fraction`` below 1 is combined with a training-time value, ``assignment="gumbel"`` with
            ``update="ema"`` or another transport than ``"straight_through"``, or a weight of the loss is below 0, or
            ``orthogonality_weight`` above 0 with ``update="ema"``, or a rule is combined with an option that it does
            not allow, or a weight without effect.

    Example:
        >>> import torch, vqlab
        >>> quantizer = vqlab.VectorQuantizer(num_codes=16, dim=8)
        >>> z_e = torch.randn(32, 8, 4, 4, requires_grad=True)
        >>> out = quantizer(z_e)
        >>> out.z_q.shape, out.indices.shape, out.loss.shape
        (torch.Size([32, 8, 4, 4]), torch.Size([32, 4, 4]), torch.Size([]))
        >>> (out.z_q.square().mean() + out.loss).backward()
        >>> out = quantizer.eval()(z_e)
        >>> torch.equal(quantizer.decode(out.indices), out.z_q)
        True
    """

    def __init__(
        self,
        num_codes: int,
        dim: int,
        *,
        transport: str = "rotation",
        transport_fraction: float = 1.0,
        assignment: str = "nearest",
        distance: str = "euclidean",
        update: str = "ema",
        init: str = "kmeans",
        restart_every: int = 20,
        restart_share: float = 0.1,
        code_dim: int | None = None,
        beta: float = 0.25,
        decay: float = 0.99,
        channel_dim: int = 1,
        hard: bool = True,
        temperature: float = 1.0,
        entropy_weight: float = 0.0,
        diversity_weight: float = 0.0,
        orthogonality_weight: float = 0.0,
        codes_from: Callable[[Tensor], Tensor] | None = None,
        rule: str | CodebookRule = NO_RULE,
        rule_weight: float | None = None,
        exact: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        code_channels = dim if code_dim is None else code_dim
        check_sizes(num_codes=num_codes, dim=dim, code_dim=code_channels)
        check_choices(assignment=assignment, distance=distance, update=update, init=init, channel_dim=channel_dim)
        check_combination(assignment, update, get_transport(transport).name)
        check_ranges(
            decay=decay, beta=beta, temperature=temperature, restart_every=restart_every, restart_share=restart_share
        )
        check_fraction(transport_fraction, transport, get_transport(transport).backward is not None)
        check_weights(
            update,
            entropy_weight=entropy_weight,
            diversity_weight=diversity_weight,
            orthogonality_weight=orthogonality_weight,
        )
        check_rule(
            rule, rule_weight, update=update, transport=transport, assignment=assignment, distance=distance,
            codes_from=codes_from,
        )  # fmt: skip
        self.num_codes, self.dim, self.beta = num_codes, dim, beta
        self.transport, self.transport_fraction = transport, transport_fraction
        self.assignment, self.distance = assignment, distance
        self.channel_dim, self.hard, self.temperature = channel_dim, hard, temperature
        self.entropy_weight, self.diversity_weight = entropy_weight, diversity_weight
        self.orthogonality_weight, self.codes_from = orthogonality_weight, codes_from
        self.project_in, self.project_out = projections(dim, code_dim)
        self.book = Codebook(
            num_codes, code_channels, update=update, init=init, decay=decay, distance=distance,
            restart_every=restart_every, restart_share=restart_share, exact=exact, seed=seed,
        )  # fmt: skip
        self.rule, self.rule_weight = build_rule(rule, num_codes, code_channels), rule_weight

    @property
    def codebooks(self) -> Float[Tensor, "1 K C"]:
        """The codes in use as the only codebook, (1, num_codes, C)."""
        return self.codebook[None]

    @property
    def codebook(self) -> Float[Tensor, "K C"]:
        """The codes in use, (num_codes, code_dim), or (num_codes, dim) without ``code_dim``; after ``codes_from``."""
        return self.book.codes if self.codes_from is None else self.codes_from(self.book.codes)

    def extra_repr(self) -> str:
        """Describe the layer for ``print(module)``.

        Returns:
            ``num_codes``, ``dim``, ``transport`` and every other argument that differs from its default.
        """
        always = ("num_codes", "dim", "transport")
        defaults = {name: value.default for name, value in inspect.signature(VectorQuantizer).parameters.items()}
        arguments = self._arguments()
        shown = [name for name in defaults if name in always or arguments[name] != defaults[name]]
        return ", ".join(f"{name}={arguments[name]!r}" for name in shown)

    def _arguments(self) -> dict[str, Any]:
        """Current values of the arguments of the constructor."""
        names = (
            "num_codes",
            "dim",
            "transport",
            "transport_fraction",
            "assignment",
            "distance",
            "beta",
            "channel_dim",
            "hard",
            "temperature",
            "entropy_weight",
            "diversity_weight",
            "orthogonality_weight",
            "codes_from",
            "rule_weight",
        )
        book_names = ("update", "init", "restart_every", "restart_share", "decay", "exact", "seed")
        projected = isinstance(self.project_in, nn.Linear)
        return {
            **{name: getattr(self, name) for name in names},
            **{name: getattr(self.book, name) for name in book_names},
            "code_dim": self.book.codes.shape[1] if projected else None,
            "rule": NO_RULE if self.rule is None else self.rule.name,
        }

    def _repr_html_(self) -> str:
        title = (
            f"{type(self).__name__}: {self.num_codes:,} codes × {self.book.codes.shape[1]}, "
            f"transport {self.transport}, update {self.book.update}"
        )
        return summary_html(title, *codebook_summary(self.book))

    def forward(
        self, z_e: Tensor, mask: Tensor | None = None, *, indices: Tensor | None = None, update: bool = True
    ) -> QuantizerOutput:
        """Quantize z_e; in training mode also initialise and update the codebook.

        Args:
            z_e: Encoder vectors, floating point: (B, D, …) with ``channel_dim=1``, (…, D) with
                ``channel_dim=-1``. An empty batch is allowed and changes nothing.
            mask: False where a vector is padding, bool, of the shape of the indices: (B, …) or (…). Such a vector
                takes no part in codebook, loss and statistics; its index is −1, its z_q and its gradient are 0.
                Default None: every vector counts.
            indices: Codes to use in place of the nearest ones, int64 in 0…K−1, of the shape of the mask; with
                ``assignment="nearest"`` or in eval mode. Default None: the layer chooses.
            update: False for no EMA step and no restart in this pass of training mode, for example if the codes are
                used several times in a step and ``update_codebook`` follows. Default True.

        Returns:
            ``QuantizerOutput`` with z_q of z_e's shape, dtype and memory format, indices of z_e's shape without the
            channel axis, the scalar loss, and the statistics of the batch.

        Raises:
            InputError: if z_e has fewer than two axes or not ``dim`` channels at ``channel_dim``, or the mask or the
                indices are of another dtype or shape.
        """
        vectors = self._vectors(z_e)
        check_mask(mask, tuple(vectors.shape[:-1]))
        check_given_indices(indices, tuple(vectors.shape[:-1]))
        recomputed = self.training and is_recomputed()
        with torch.autocast(z_e.device.type, enabled=False):
            e = project(self.project_in, self._rows(without_padding(vectors, mask)))
            unmasked = None if mask is None else mask.reshape(-1)
            kernels = kernels_for(e) if self._codes_are_constant() else None
            rule = self._rule(recomputed)
            seen = None if kernels and rule is None else see_rows(e.detach(), unmasked)
            if self.training and not recomputed and self.book.awaits_first_fill():
                self.book.initialise(e.detach(), (seen or see_rows(e.detach(), unmasked)).rows)
            codes = self._codes(e.dtype, recomputed)
            step = None if rule is None else self._rule_step(e, codes, cast(SeenRows, seen), recomputed)
            if indices is None:
                indices, mixture = self._choose(e, codes, seen, recomputed, rule, step)
            else:
                indices, mixture = indices.reshape(-1).clamp_min(0), None
            arguments = (codes, indices, self.transport, self.transport_fraction)
            if kernels:
                batch = assign_by_kernels(kernels, e.detach(), *arguments, unmasked)
            else:
                batch = assign(e, *arguments, cast(SeenRows, seen), unmasked)
            output_rows, error = self._transport(e, batch, indices, recomputed) if mixture is None else (mixture, None)
            loss = self._loss(e, batch, error, codes, unmasked)
            chosen = RuleBatch(indices, output_rows, batch.q, batch.counts, batch.sums)
            if rule is not None and step is not None and rule.weight is not None:
                weight = rule.weight if self.rule_weight is None else self.rule_weight
                loss = loss + weight * rule.loss(step, chosen)
            if self.training and update and not recomputed:
                restarts = self.book.update_codes(e.detach(), batch.rows, batch.counts, batch.sums)
                if rule is not None and step is not None and not self.book.frozen:
                    rule.finish_step(step, chosen, self.book)
            else:
                restarts = torch.zeros((), device=e.device)
            z_q = project(self.project_out, output_rows)
        if unmasked is not None:
            z_q, indices = torch.where(unmasked[:, None], z_q, 0), torch.where(unmasked, indices, -1)
        z_q = channels_back(z_q.to(z_e.dtype).reshape(vectors.shape), self.channel_dim, memory_format(z_e))
        return QuantizerOutput(z_q, indices.reshape(vectors.shape[:-1]), loss, {**batch.stats, "restarts": restarts})

    @torch.no_grad()
    def update_codebook(self, z_e: Tensor, indices: Tensor) -> Tensor:
        """Do the EMA step and the restarts of one training step, after passes with ``update=False``.

        Args:
            z_e: Encoder vectors as for ``forward``, of all passes of the step.
            indices: Index of the code of each vector, int64, of z_e's shape without the channel axis; −1 for a vector
                that does not count.

        Returns:
            The number of restarted codes, a scalar; 0 in eval mode and in a pass that activation checkpointing repeats.

        Raises:
            InputError: if z_e has fewer than two axes or not ``dim`` channels at ``channel_dim``, or the indices are of
                another shape.
        """
        vectors = self._vectors(z_e.detach())
        check_given_indices(indices, tuple(vectors.shape[:-1]))
        if not self.training or is_recomputed():
            return torch.zeros((), device=z_e.device)
        e, slots = project(self.project_in, self._rows(vectors)), indices.reshape(-1)
        rows = see_rows(e, slots >= 0).rows
        return self.book.update_codes(e, rows, *counts_and_sums(e, slots.clamp_min(0), self.num_codes, rows))

    def fit_codes(self, z_e: Tensor, batches: int = 1) -> None:
        """Set the codes from encoder vectors, for example those of many batches after training without quantization.

        K-means with 10 iterations, or random vectors with ``init="data"``; what the codes held before is lost.

        Args:
            z_e: Encoder vectors as for ``forward``, at least one; 40 vectors for each code are enough.
            batches: Number of training batches that the vectors come from, so that they weigh as much as one batch in
                the EMA. Default 1.

        Raises:
            InputError: if z_e has fewer than two axes, not ``dim`` channels at ``channel_dim``, or no vector.
        """
        rows = self._rows(self._vectors(z_e))
        if not len(rows):
            raise InputError(f"z_e: shape {tuple(z_e.shape)} has no vector; give at least one")
        with torch.no_grad():
            self.book.fit_codes(project(self.project_in, rows), batches)

    def set_codes(self, codes: Float[Tensor, "K C"], count: float = 1.0) -> None:
        """Set the codes, for example to those of another layer or of a file; what the codes held before is lost.

        Two layers share one codebook if they share the module: ``layer.book = other.book``.

        Args:
            codes: The codes, (num_codes, code_dim), or (num_codes, dim) without ``code_dim``; finite.
            count: Vectors that each code stands for in the EMA, above 0. Default 1. Increase it if the codes should
                move slowly at first.

        Raises:
            InputError: if the shape is another one, a code is not finite, or the count is not above 0.

        Example:
            >>> import torch, vqlab
            >>> layer, other = (vqlab.VectorQuantizer(4, 2, seed=seed) for seed in (0, 1))
            >>> layer.set_codes(other.codebook)
            >>> torch.equal(layer.codebook, other.codebook)
            True
        """
        shape = tuple(self.book.codes.shape)
        if tuple(codes.shape) != shape or not bool(codes.isfinite().all()):
            raise InputError(f"codes: shape {tuple(codes.shape)}, must be finite and of shape {shape}")
        if not count > 0:
            raise InputError(f"count={count}: must be above 0")
        self.book.set_codes(codes.detach(), torch.full_like(self.book.counts, count))

    @torch.no_grad()
    def nearest(self, z_e: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
        """Find the k nearest codes of each vector and their distances; nothing is updated.

        Args:
            z_e: Encoder vectors as for ``forward``.
            k: Number of codes for each vector, in 1…K. Default 1.

        Returns:
            Indices, int64, and distances in the space of the codes, nearest first; the shape of ``forward``'s indices
            with an axis of k after it. Distances are ‖e − c‖, or 1 − cos with ``distance="cosine"``.

        Raises:
            InputError: if z_e has fewer than two axes or not ``dim`` channels at ``channel_dim``, or k is not in 1…K.
        """
        if not 1 <= k <= self.num_codes:
            raise InputError(f"k={k}: must be in 1…{self.num_codes}, the number of codes")
        vectors = self._vectors(z_e)
        e = project(self.project_in, self._rows(vectors))
        indices, distances = k_nearest_codes(e, self.codebook.to(e.dtype), k, self.distance)
        shape = (*vectors.shape[:-1], k)
        return indices.reshape(shape), distances.reshape(shape)

    def decode(self, indices: Int[Tensor, " *shape"]) -> Tensor:
        """Look up z_q for indices, including the projection of ``code_dim``.

        Args:
            indices: Indices of codes, integers in 0…K−1, for example (B, H, W); −1 gives a vector of zeros, as for a
                masked vector in ``forward``.

        Returns:
            z_q of the codebook's dtype: (B, D, …) for indices (B, …) with ``channel_dim=1``, (…, D) for indices (…)
            with ``channel_dim=-1``. In eval mode it equals the z_q of the forward pass that returned the indices.

        Raises:
            InputError: if an index is outside −1…K−1.
        """
        check_indices(indices, self.num_codes)
        z_q = self.project_out(F.embedding(indices.clamp_min(0), self.codebook))
        return channels_back(torch.where((indices < 0)[..., None], 0, z_q), self.channel_dim)

    def _rows(self, vectors: Tensor) -> Tensor:
        """Vectors as rows (N, D) of the dtype of the computation."""
        return vectors.reshape(-1, self.dim).to(working_dtype(vectors, self.book.codes))

    def _codes(self, dtype: torch.dtype, recomputed: bool) -> Tensor:
        """The codes of this pass, with a path for their gradient if an optimizer trains them."""
        codes = self.book.codes_for(recomputed=recomputed)
        if self.book.update == "gradient" and self.training:
            # A copy: a restart in this step must not change what the backward pass uses.
            codes = transport(self.book.codes, codes, "straight_through")
        return (codes if self.codes_from is None else self.codes_from(codes)).to(dtype)

    def _rule(self, recomputed: bool) -> CodebookRule | None:
        """The rule of this pass: in training mode only, and without what a repeated pass has changed already."""
        if self.rule is None or not self.training:
            return None
        return self.rule.before_last_step() if recomputed else self.rule

    def _rule_step(self, e: Tensor, codes: Tensor, seen: SeenRows, recomputed: bool) -> RuleStep:
        """What the rule sees of this pass."""
        counted = torch.where(seen.rows[:, None], e, 0)
        noise = partial(self.book.noise, uniform=True, recomputed=recomputed)
        return RuleStep(counted, codes, seen.rows, self.distance, self.beta, self.book.decay, self.temperature, noise)

    def _choose(
        self, e: Tensor, codes: Tensor, seen: SeenRows | None, recomputed: bool, rule: CodebookRule | None,
        step: RuleStep | None,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """The indices of the codes, and with a softmax the rows for the decoder."""
        if rule is not None and step is not None and (choice := rule.choose(step)) is not None:
            return choice
        if self.assignment == "gumbel" and self.training:
            return self._gumbel_softmax(e, codes, recomputed)
        lengths = None if seen is None else seen.lengths
        return nearest_codes(e.detach(), codes.detach(), self.distance, exact=self.book.exact, lengths=lengths), None

    def _codes_are_constant(self) -> bool:
        """Whether no gradient reaches the codes and each vector has one of them, as the fused kernels require."""
        trained = self.training and (self.book.update == "gradient" or self.assignment == "gumbel")
        return not trained and self.codes_from is None

    def _transport(
        self, e: Tensor, batch: Assignment, indices: Tensor, recomputed: bool
    ) -> tuple[Tensor, Tensor | None]:
        """The rows for the decoder, the codes or the training-time value of a forward transport; the mean of (e − q)².

        The mean is None if it is not part of the transport.
        """
        entry, lengths = get_transport(self.transport), batch.lengths
        if entry.forward is None:
            groups = code_groups(indices, self.num_codes, batch.rows) if entry.by_code else None
            rows = (e, batch.q, self.transport)
            fraction, undefined = self.transport_fraction, batch.undefined
            if lengths is None:
                return transport(*rows, fraction=fraction, undefined=undefined, groups=groups), None
            return transport_and_error(*rows, lengths, fraction=fraction, undefined=undefined, groups=groups)
        if not self.training:
            return transport(e, batch.q, "straight_through"), None
        return transport(e, batch.q, self.transport, self.book.noise(e.detach(), recomputed=recomputed)), None

    def _gumbel_softmax(self, e: Tensor, codes: Tensor, recomputed: bool) -> tuple[Tensor, Tensor]:
        """The indices of the sampled codes, and the rows for the decoder."""
        logits = similarities(e, codes, self.distance)
        uniform = self.book.noise(logits.detach(), uniform=True, recomputed=recomputed)
        weights = gumbel_softmax(logits, uniform, self.temperature)
        indices = weights.argmax(dim=1)
        mixture = weights @ codes
        if self.hard:
            mixture = F.embedding(indices, codes.detach()) + (mixture - mixture.detach())
        return indices, mixture

    def _loss(self, e: Tensor, batch: Assignment, error: Tensor | None, codes: Tensor, rows: Tensor | None) -> Tensor:
        """The terms of the loss over all rows, or over those of a mask, so that other rows get no gradient."""
        if e.shape[0] == 0:
            return e.sum()
        if self.training and self.rule is not None and self.rule.replaces_terms:
            loss = batch.squares.new_zeros(())
        else:
            if error is None or rows is not None:
                error = mean_square(e, batch.q, batch.squares, rows)
            loss = self.beta * error
            if self.book.update == "gradient":
                loss = loss + mean_square(batch.q, e, batch.squares, rows)
        if self.entropy_weight or self.diversity_weight:
            uncertainty, unevenness = code_entropies(similarities(e, codes, self.distance) / self.temperature, rows)
            loss = loss + self.entropy_weight * uncertainty + self.diversity_weight * unevenness
        if self.orthogonality_weight:
            loss = loss + self.orthogonality_weight * non_orthogonality(codes)
        return loss
