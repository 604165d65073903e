"""State of a codebook: codes, EMA counts and sums, initialisation, restarts of dead codes."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vqlab.quantize import compiled_steps
from vqlab.quantize.float32_state import Float32State
from vqlab.quantize.floors import LAPLACE
from vqlab.quantize.initialisation import kmeans, random_codes, replacement_rows, sample_rows
from vqlab.quantize.kernels import kernels_for
from vqlab.quantize.ranks import gather_rows, is_distributed


class Codebook(Float32State):
    """K codes of C channels, trained by an exponential moving average (EMA) or by gradient.

    With γ = ``decay``, nₖ the number of vectors assigned to code k in the batch and sₖ their sum, an EMA step is::

        Nₖ ← γ Nₖ + (1 − γ) nₖ
        mₖ ← γ mₖ + (1 − γ) sₖ
        cₖ = mₖ / N̂ₖ,   N̂ₖ = (Nₖ + ε) / (Σⱼ Nⱼ + K ε) · Σⱼ Nⱼ,   ε = 10⁻⁵

    (van den Oord, Vinyals and Kavukcuoglu, Neural Discrete Representation Learning, 2017, appendix A.1, with Laplace
    smoothing of the counts). A code with Nₖ ≤ 100 ε keeps its value.

    Codes, counts and sums stay in float32 if the module is converted to float16 or bfloat16. Vectors that do not count
    (not finite, or masked out) take no part in any of this.

    Random numbers depend on ``seed`` and ``step`` only, so a codebook loaded from a state dict continues as if it had
    not been interrupted. Under torch.distributed, counts and sums are all-reduced and new codes are drawn from the
    vectors of all ranks, so all ranks hold the same codebook as one process on the joined batch.

    Args:
        num_codes: K, the number of codes.
        dim: C, the channels of a code.
        update: ``"ema"``, or ``"gradient"`` for codes that are an ``nn.Parameter`` trained by an optimizer.
        init: ``"kmeans"``, ``"data"``, ``"uniform"`` or ``"normal"``; see ``VectorQuantizer``.
        decay: γ of the EMA, above 0 and below 1.
        distance: ``"euclidean"`` or ``"cosine"``, used by the k-means initialisation.
        restart_every: Training steps between two checks for dead codes; 0 disables restarts.
        restart_share: A code is dead if it received fewer than this share of the mean number of vectors per code
            since the previous check, in 0…1.
        exact: Whether the search is exact; see ``VectorQuantizer``.
        seed: Seed of all random numbers of the codebook.

    Attributes:
        codes: The codes, (K, C), float32; a buffer, or a parameter with ``update="gradient"``.
        counts: EMA of the number of vectors per code, Nₖ, (K,).
        sums: EMA of the sum of the vectors per code, mₖ, (K, C); constant with ``update="gradient"``.
        recent: Number of vectors per code since the last check for dead codes, (K,).
        step: Number of training steps with at least one vector, int64 scalar.
        filled: Whether the codes are initialised, bool scalar.
        frozen: Whether training mode leaves codes, counts and sums alone; can be changed between steps.
    """

    codes: Tensor
    counts: Tensor
    sums: Tensor
    recent: Tensor
    step: Tensor
    filled: Tensor

    def __init__(
        self, num_codes: int, dim: int, *, update: str, init: str, decay: float, distance: str,
        restart_every: int, restart_share: float, exact: bool, seed: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.exact = exact
        self.update, self.init, self.decay, self.distance = update, init, decay, distance
        self.restart_every, self.restart_share, self.seed = restart_every, restart_share, seed
        self.frozen = False
        # On the host, so that no step waits for the device: what the buffers step and filled say, if known.
        self._host_step: int | None = None
        self._step_stamp: tuple[int, int] | None = None
        self._known_filled = init in ("uniform", "normal")
        self._before_update: Tensor | None = None
        self._number = compiled_steps.register_codebook(self)
        codes = random_codes(init, num_codes, dim, torch.Generator().manual_seed(seed)).to(torch.empty(()).device)
        if update == "gradient":
            self.codes = nn.Parameter(codes)
        else:
            self.register_buffer("codes", codes)
        self.register_buffer("counts", torch.ones(num_codes, dtype=codes.dtype))
        self.register_buffer("sums", codes.clone())
        # Dead codes are found by counts since the last check: an EMA would need hundreds of steps to show them.
        self.register_buffer("recent", torch.zeros(num_codes, dtype=codes.dtype))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("filled", torch.tensor(self._known_filled))

    def extra_repr(self) -> str:
        """Describe the codebook for ``print(module)``.

        Returns:
            ``num_codes``, ``dim``, ``update`` and ``init``.
        """
        return f"num_codes={self.codes.shape[0]}, dim={self.codes.shape[1]}, update={self.update!r}, init={self.init!r}"

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._number = compiled_steps.register_codebook(self)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self._host_step, self._known_filled, self._before_update = None, False, None

    def codes_for(self, *, recomputed: bool) -> Float[Tensor, "K C"]:
        """Return the codes that a forward pass uses.

        Args:
            recomputed: Whether the pass repeats the last one of training mode, as activation checkpointing does during
                the backward pass. Then the codes are those from before the update of that pass.

        Returns:
            The codes, (K, C), without a graph.
        """
        return self._before_update if recomputed and self._before_update is not None else self.codes.detach()

    def step_generator(self, device: torch.device, *, recomputed: bool = False) -> torch.Generator:
        """Create the random generator of the current step.

        Args:
            device: Device of the generator.
            recomputed: Whether the last step is repeated, as for ``codes_for``. Default False.

        Returns:
            A new generator whose seed depends on ``seed`` and ``step`` only.
        """
        step = self.known_step() - 1 if recomputed and self._before_update is not None else self.known_step()
        return torch.Generator(device).manual_seed((self.seed * 1_000_003 + step * 7919 + 17) % (2**63))

    def noise(self, like: Tensor, *, uniform: bool = False, recomputed: bool = False) -> Tensor:
        """Draw the random numbers of the current step.

        Args:
            like: Tensor of the shape, dtype and device of the result.
            uniform: True for U(0, 1), False (default) for N(0, 1).
            recomputed: Whether the last step is repeated, as for ``codes_for``. Default False.

        Returns:
            The numbers, of the shape of ``like``.
        """
        if torch.compiler.is_compiling():
            return compiled_steps.step_noise(like, self.step, uniform, self._number)
        generator = self.step_generator(like.device, recomputed=recomputed)
        draw = torch.rand if uniform else torch.randn
        return draw(like.shape, generator=generator, device=like.device, dtype=like.dtype)

    @contextmanager
    def state(self, **tensors: Tensor) -> Iterator[Self]:
        """Hold other tensors as the state of the codebook for a while; the operators of ``compiled_steps`` use it.

        Args:
            **tensors: Buffers, or codes, by name.

        Yields:
            A codebook that writes to these tensors and counts the steps of this one.
        """
        view = copy.copy(self)
        view._buffers, view._parameters = {**self._buffers, **tensors}, {}
        if self._host_step is not None:
            view._step_stamp = _stamp(view.step)
        try:
            yield view
        finally:
            self._host_step, self._step_stamp = view._host_step, None
            self._known_filled, self._before_update = view._known_filled, view._before_update

    def awaits_first_fill(self) -> bool:
        """Whether ``initialise`` may still set the codes; False if it is known that it will not.

        Returns:
            False if the codes are known to be initialised, or ``frozen``; always True in a compiled graph otherwise.
        """
        return not self.frozen and (torch.compiler.is_compiling() or not self._known_filled)

    @torch.no_grad()
    def initialise(self, e: Float[Tensor, "N C"], rows: Bool[Tensor, " N"]) -> None:
        """Set the codes from the first training batch if ``init`` is ``"kmeans"`` or ``"data"``.

        Does nothing for a batch without rows that count, or if the codes are initialised or ``frozen``.

        Args:
            e: Encoder vectors of this rank, (N, C).
            rows: True, in a mask of (N,), for the vectors that count.
        """
        if not self.awaits_first_fill():
            return
        if torch.compiler.is_compiling():
            state = (self.codes.detach(), self.counts, self.sums, self.filled)
            _write(state, compiled_steps.initialise(*state, e, rows, self._number))
            return
        # The host reads from the device in the steps until the first fill only.
        self._known_filled = bool(self.filled)
        if self._known_filled:
            return
        e, rows = _gather_rows(e, rows)
        counted = e[rows]
        if len(counted):
            self.fit_codes(counted)

    @torch.no_grad()
    def fit_codes(self, e: Float[Tensor, "N C"], batches: int = 1) -> None:
        """Set the codes, counts and sums from encoder vectors: by k-means, or with ``init="data"`` at random.

        Args:
            e: Encoder vectors, (N, C), N at least 1; the same on all ranks under torch.distributed.
            batches: Number of training batches that the vectors come from. The counts are divided by it, so that the
                vectors weigh as much as one batch in the EMA. Default 1.
        """
        generator = self.step_generator(torch.device("cpu"))
        if self.init != "data":
            codes, counts = kmeans(e, len(self.counts), generator, self.distance, exact=self.exact)
        else:
            codes = sample_rows(e, len(self.counts), generator)
            counts = torch.full_like(self.counts, len(e) / len(self.counts))
        self.set_codes(codes, (counts / batches).clamp_min(LAPLACE))

    @torch.no_grad()
    def set_codes(self, codes: Float[Tensor, "K C"], counts: Float[Tensor, " K"]) -> None:
        """Set codes, EMA counts and sums; the codebook is initialised then.

        Args:
            codes: The codes, (K, C).
            counts: EMA counts, (K,), above 0.
        """
        self.codes.data.copy_(codes)
        self.counts.copy_(counts)
        self.sums.copy_(self.codes * counts[:, None])
        self.filled.fill_(True)
        self._known_filled = True

    @torch.no_grad()
    def move_codes(self, targets: Float[Tensor, "K C"], shares: Float[Tensor, " K"]) -> None:
        """Move codes part of the way to targets, and the EMA sums with them, so that the next step does not undo it.

        Args:
            targets: Where to, (K, C), finite.
            shares: The part of the way of each code, (K,), in 0…1.
        """
        shares = shares[:, None].to(self.codes.dtype)
        targets = targets.to(self.codes.dtype)
        self.sums.lerp_(targets * self.counts[:, None], shares)
        self.codes.data.lerp_(targets, shares)

    @torch.no_grad()
    def update_codes(
        self, e: Float[Tensor, "N C"], rows: Bool[Tensor, " N"], counts: Float[Tensor, " K"], sums: Float[Tensor, "K C"]
    ) -> Float[Tensor, ""]:
        """Do one EMA step and, every ``restart_every`` steps, restart dead codes.

        A restarted code gets the value of a random encoder vector of the batch and the mean EMA count (random
        restarts as in Dhariwal et al., Jukebox: A Generative Model for Music, 2020). With ``update="gradient"`` the
        counts are updated and dead codes restarted, but there is no EMA step of the codes. A batch without vectors
        that count changes nothing but ``step``; one without any vector changes nothing. No value is read on the host.

        Args:
            e: Encoder vectors of this rank, (N, C), from which restarted codes are drawn.
            rows: True, in a mask of (N,), for the vectors that count.
            counts: Number of vectors per code on this rank, (K,); under torch.distributed replaced by the sum over
                ranks, in place.
            sums: Sum of the vectors per code on this rank, (K, C); likewise.

        Returns:
            The number of restarted codes, a scalar.
        """
        if torch.compiler.is_compiling() and not self.frozen:
            state = (self.codes.detach(), self.counts, self.sums, self.recent, self.step)
            *after, restarts = compiled_steps.update(*state, e, rows, counts, sums, self._number)
            _write(state, after)
            return restarts
        restarts = torch.zeros((), device=e.device)
        if self.frozen or (len(e) == 0 and not is_distributed()):
            return restarts
        if is_distributed():
            joined = torch.cat([counts[:, None], sums], dim=1)  # one sum, since ranks wait for each other in each
            dist.all_reduce(joined)
            counts.copy_(joined[:, 0])
            sums.copy_(joined[:, 1:])
        self._before_update = self._ema_step(counts, sums)
        step = self._advance()
        if self.restart_every and step % self.restart_every == 0:
            return self._restart_dead_codes(e, rows)
        return restarts

    def _ema_step(self, counts: Float[Tensor, " K"], sums: Float[Tensor, "K C"]) -> Float[Tensor, "K C"]:
        """Update counts, sums and codes, and return the codes of before."""
        if self.update == "ema" and self.codes.dtype == torch.float32 and (kernels := kernels_for(sums)):
            return kernels.ema_by_kernel(counts, sums, self.counts, self.sums, self.recent, self.codes, self.decay)
        before = self.codes.detach().clone()
        has_rows = counts.sum() > 0
        self.recent += counts
        # Without a row nothing may decay; the counts and sums that are added are 0 then.
        decay = torch.where(has_rows, counts.new_full((), self.decay), counts.new_ones(()))
        self.counts.mul_(decay).add_(counts, alpha=1 - self.decay)
        if self.update == "ema":
            self.sums.mul_(decay).add_(sums, alpha=1 - self.decay)
            self._update_codes_from_sums(has_rows)
        return before

    def _advance(self) -> int:
        """Count a step, on the device and on the host, and return its number."""
        step = self.known_step() + 1
        self.step += 1
        self._host_step, self._step_stamp = step, _stamp(self.step)
        return step

    def known_step(self) -> int:
        """Return the number of training steps so far, without a wait for the device.

        Returns:
            The value of ``step``; it is read from the device only if somebody else has written to the buffer.
        """
        if self._host_step is None or self._step_stamp != _stamp(self.step):
            self._host_step, self._step_stamp = int(self.step), _stamp(self.step)
        return self._host_step

    def _update_codes_from_sums(self, has_rows: Bool[Tensor, ""]) -> None:
        total = self.counts.sum()
        smoothed = (self.counts + LAPLACE) / (total + len(self.counts) * LAPLACE) * total
        # A code unused for very long keeps its value, because 0/0 would move it to the origin.
        moves = ((self.counts > 100 * LAPLACE) & has_rows)[:, None]
        self.codes.copy_(torch.where(moves, self.sums / smoothed[:, None], self.codes))

    def _restart_dead_codes(self, e: Float[Tensor, "N C"], rows: Bool[Tensor, " N"]) -> Float[Tensor, ""]:
        e, rows = _gather_rows(e, rows)
        dead = (self.recent < self.restart_share * self.recent.mean()) & rows.any()
        self.recent.zero_()
        codes = replacement_rows(e, rows, dead, self.step_generator(torch.device("cpu"))).to(self.codes.dtype)
        # Counts and sums too, so that the next EMA step does not undo the change.
        count = self.counts.mean()
        self.codes.data.copy_(torch.where(dead[:, None], codes, self.codes))
        self.counts.copy_(torch.where(dead, count, self.counts))
        self.sums.copy_(torch.where(dead[:, None], codes * count, self.sums))
        return dead.sum().to(torch.float32)


def _write(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


def _stamp(tensor: Tensor) -> tuple[int, int] | None:
    """What changes when somebody writes to a tensor or puts another in its place; None if that cannot be seen."""
    return None if tensor.is_inference() else (id(tensor), tensor._version)


def _gather_rows(e: Float[Tensor, "N C"], rows: Bool[Tensor, " N"]) -> tuple[Tensor, Tensor]:
    """Join the rows of all ranks, and which of them count, in rank order; ranks may hold different numbers of rows."""
    if not is_distributed():
        return e, rows
    gathered = gather_rows(torch.cat([e, rows[:, None].to(e.dtype)], dim=1))
    return gathered[:, :-1], gathered[:, -1] > 0
