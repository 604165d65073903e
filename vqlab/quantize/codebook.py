"""The codebook's state: codes, EMA counts and sums, first fill, restarts of dead codes."""

from __future__ import annotations

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from vqlab.quantize.initialise import initial_codes, kmeans, sample_rows

_LAPLACE = 1e-5


class Codebook(nn.Module):
    """K codes of C channels that move by EMA (sums over counts) or by gradient.

    Random numbers come from (seed, step), so a reloaded codebook goes on as if never stopped.
    Under torch.distributed counts and sums are all-reduced and new codes come from the joined
    tokens, so ranks never drift and two ranks equal one process on the joined batch.
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
        codes = initial_codes(init, num_codes, dim, torch.Generator().manual_seed(seed))
        if update == "gradient":
            self.codes = nn.Parameter(codes)
        else:
            self.register_buffer("codes", codes)
        self.register_buffer("counts", torch.ones(num_codes))
        self.register_buffer("sums", codes.clone())
        # Tokens per code since the last look: an EMA would need hundreds of steps to notice a dead code.
        self.register_buffer("recent", torch.zeros(num_codes))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("filled", torch.tensor(init in ("uniform", "normal")))

    def generator(self, device: torch.device) -> torch.Generator:
        """A generator that depends on the seed and the step alone."""
        generator = torch.Generator(device)
        return generator.manual_seed((self.seed * 1_000_003 + int(self.step) * 7919 + 17) % (2**63))

    @torch.no_grad()
    def prepare(self, e: Float[Tensor, "N C"], *, training: bool) -> None:
        """Fill the codes from the first training batch, where ``init`` asks for data."""
        if not training or bool(self.filled):
            return
        e = _gather_tokens(e)
        if len(e) == 0:
            return
        generator = self.generator(torch.device("cpu"))
        if self.init == "kmeans":
            codes, counts = kmeans(e, len(self.counts), generator, self.distance)
        else:
            codes = sample_rows(e, len(self.counts), generator)
            counts = torch.full_like(self.counts, len(e) / len(self.counts))
        self._set_codes(torch.ones_like(self.counts, dtype=torch.bool), codes, counts.clamp_min(_LAPLACE))
        self.filled.fill_(True)

    @torch.no_grad()
    def update_codes(self, e: Float[Tensor, "N C"], counts: Float[Tensor, " K"], sums: Float[Tensor, "K C"]) -> int:
        """One step of EMA and, when due, restarts; returns how many codes were restarted."""
        if _distributed():
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
        # A code that nobody has used for very long keeps its place; 0/0 would pull it to the origin.
        alive = (self.counts > 100 * _LAPLACE)[:, None]
        self.codes.copy_(torch.where(alive, self.sums / smoothed[:, None], self.codes))

    def _restart_dead_codes(self, e: Float[Tensor, "N C"]) -> int:
        dead = self.recent < self.restart_share * self.recent.mean()
        self.recent.zero_()
        number = int(dead.sum())
        if number:
            fresh = sample_rows(_gather_tokens(e), number, self.generator(torch.device("cpu")))
            self._set_codes(dead, fresh, self.counts.mean().expand(number).clone())
        return number

    def _set_codes(self, where: Tensor, codes: Float[Tensor, "n C"], counts: Float[Tensor, " n"]) -> None:
        """Put codes with counts *and* sums that agree, so the next EMA step does not undo them."""
        self.codes.data[where] = codes.to(self.codes.dtype)
        self.counts[where] = counts.to(self.counts.dtype)
        self.sums[where] = (codes * counts[:, None]).to(self.sums.dtype)


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _gather_tokens(e: Float[Tensor, "N C"]) -> Float[Tensor, "M C"]:
    """The tokens of all ranks in rank order; ranks may hold different numbers of them."""
    if not _distributed():
        return e
    sizes = [torch.zeros(1, dtype=torch.int64, device=e.device) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, torch.tensor([len(e)], device=e.device))
    longest = max(int(size) for size in sizes)
    padded = e.new_zeros(longest, e.shape[1])
    padded[: len(e)] = e
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return torch.cat([part[: int(size)] for part, size in zip(parts, sizes, strict=True)])
