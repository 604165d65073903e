"""State of a codebook: codes, EMA counts and sums, initialisation, restarts of dead codes."""

from __future__ import annotations

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from vqlab.quantize.initialisation import kmeans, random_codes, sample_rows

_LAPLACE = 1e-5


class Codebook(nn.Module):
    """K codes of C channels, trained by an exponential moving average (EMA) or by gradient.

    With γ = ``decay``, nₖ the number of vectors assigned to code k in the batch and sₖ their sum, an EMA step is::

        Nₖ ← γ Nₖ + (1 − γ) nₖ
        mₖ ← γ mₖ + (1 − γ) sₖ
        cₖ = mₖ / N̂ₖ,   N̂ₖ = (Nₖ + ε) / (Σⱼ Nⱼ + K ε) · Σⱼ Nⱼ,   ε = 10⁻⁵

    (van den Oord, Vinyals and Kavukcuoglu, Neural Discrete Representation Learning, 2017, appendix A.1, with Laplace
    smoothing of the counts). A code with Nₖ ≤ 100 ε keeps its value.

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
        seed: Seed of all random numbers of the codebook.

    Attributes:
        codes: The codes, (K, C), float32; a buffer, or a parameter with ``update="gradient"``.
        counts: EMA of the number of vectors per code, Nₖ, (K,).
        sums: EMA of the sum of the vectors per code, mₖ, (K, C); constant with ``update="gradient"``.
        recent: Number of vectors per code since the last check for dead codes, (K,).
        step: Number of training steps with at least one vector, int64 scalar.
        filled: Whether the codes are initialised, bool scalar.
    """

    codes: Tensor
    counts: Tensor
    sums: Tensor
    recent: Tensor
    step: Tensor
    filled: Tensor

    def __init__(
        self, num_codes: int, dim: int, *, update: str, init: str, decay: float, distance: str,
        restart_every: int, restart_share: float, seed: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.update, self.init, self.decay, self.distance = update, init, decay, distance
        self.restart_every, self.restart_share, self.seed = restart_every, restart_share, seed
        codes = random_codes(init, num_codes, dim, torch.Generator().manual_seed(seed))
        if update == "gradient":
            self.codes = nn.Parameter(codes)
        else:
            self.register_buffer("codes", codes)
        self.register_buffer("counts", torch.ones(num_codes))
        self.register_buffer("sums", codes.clone())
        # Dead codes are found by counts since the last check: an EMA would need hundreds of steps to show them.
        self.register_buffer("recent", torch.zeros(num_codes))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("filled", torch.tensor(init in ("uniform", "normal")))

    def extra_repr(self) -> str:
        """Describe the codebook for ``print(module)``.

        Returns:
            ``num_codes``, ``dim``, ``update`` and ``init``.
        """
        return f"num_codes={self.codes.shape[0]}, dim={self.codes.shape[1]}, update={self.update!r}, init={self.init!r}"

    def step_generator(self, device: torch.device) -> torch.Generator:
        """Create the random generator of the current step.

        Args:
            device: Device of the generator.

        Returns:
            A new generator whose seed depends on ``seed`` and ``step`` only.
        """
        generator = torch.Generator(device)
        return generator.manual_seed((self.seed * 1_000_003 + int(self.step) * 7919 + 17) % (2**63))

    @torch.no_grad()
    def initialise(self, e: Float[Tensor, "N C"], *, training: bool) -> None:
        """Set the codes from the first training batch if ``init`` is ``"kmeans"`` or ``"data"``.

        Does nothing in eval mode, for an empty batch, or if the codes are initialised.

        Args:
            e: Encoder vectors of this rank, (N, C).
            training: Whether the layer is in training mode.
        """
        if not training or bool(self.filled):
            return
        e = _gather_rows(e)
        if len(e):
            self.fit_codes(e)

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
            codes, counts = kmeans(e, len(self.counts), generator, self.distance)
        else:
            codes = sample_rows(e, len(self.counts), generator)
            counts = torch.full_like(self.counts, len(e) / len(self.counts))
        counts = (counts / batches).clamp_min(_LAPLACE)
        self._set_codes(torch.ones_like(self.counts, dtype=torch.bool), codes, counts)
        self.filled.fill_(True)

    @torch.no_grad()
    def update_codes(self, e: Float[Tensor, "N C"], counts: Float[Tensor, " K"], sums: Float[Tensor, "K C"]) -> int:
        """Do one EMA step and, every ``restart_every`` steps, restart dead codes.

        A restarted code gets the value of a random encoder vector of the batch and the mean EMA count (random
        restarts as in Dhariwal et al., Jukebox: A Generative Model for Music, 2020). With ``update="gradient"`` the
        counts are updated and dead codes restarted, but there is no EMA step of the codes. Does nothing for a batch
        without vectors.

        Args:
            e: Encoder vectors of this rank, (N, C), from which restarted codes are drawn.
            counts: Number of vectors per code on this rank, (K,); under torch.distributed replaced by the sum over
                ranks, in place.
            sums: Sum of the vectors per code on this rank, (K, C); likewise.

        Returns:
            The number of restarted codes.
        """
        if _is_distributed():
            dist.all_reduce(counts)
            dist.all_reduce(sums)
        if not bool(counts.sum() > 0):
            return 0
        self.step += 1
        self.recent += counts
        self.counts.mul_(self.decay).add_(counts, alpha=1 - self.decay)
        if self.update == "ema":
            self.sums.mul_(self.decay).add_(sums, alpha=1 - self.decay)
            self._update_codes_from_sums()
        if self.restart_every and int(self.step) % self.restart_every == 0:
            return self._restart_dead_codes(e)
        return 0

    def _update_codes_from_sums(self) -> None:
        total = self.counts.sum()
        smoothed = (self.counts + _LAPLACE) / (total + len(self.counts) * _LAPLACE) * total
        # A code unused for very long keeps its value, because 0/0 would move it to the origin.
        has_count = (self.counts > 100 * _LAPLACE)[:, None]
        self.codes.copy_(torch.where(has_count, self.sums / smoothed[:, None], self.codes))

    def _restart_dead_codes(self, e: Float[Tensor, "N C"]) -> int:
        dead = self.recent < self.restart_share * self.recent.mean()
        self.recent.zero_()
        num_dead = int(dead.sum())
        if num_dead:
            new_codes = sample_rows(_gather_rows(e), num_dead, self.step_generator(torch.device("cpu")))
            self._set_codes(dead, new_codes, self.counts.mean().expand(num_dead).clone())
        return num_dead

    def _set_codes(self, mask: Tensor, codes: Float[Tensor, "n C"], counts: Float[Tensor, " n"]) -> None:
        """Set codes, counts *and* sums consistently, so that the next EMA step does not undo the change."""
        self.codes.data[mask] = codes.to(self.codes.dtype)
        self.counts[mask] = counts.to(self.counts.dtype)
        self.sums[mask] = (codes * counts[:, None]).to(self.sums.dtype)


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _gather_rows(e: Float[Tensor, "N C"]) -> Float[Tensor, "M C"]:
    """Join the rows of all ranks in rank order; ranks may hold different numbers of rows."""
    if not _is_distributed():
        return e
    sizes = [torch.zeros(1, dtype=torch.int64, device=e.device) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, torch.tensor([len(e)], device=e.device))
    max_size = max(int(size) for size in sizes)
    padded = e.new_zeros(max_size, e.shape[1])
    padded[: len(e)] = e
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return torch.cat([part[: int(size)] for part, size in zip(parts, sizes, strict=True)])
