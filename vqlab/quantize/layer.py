"""The vector-quantization layer: shapes, axes and state around the room's pure functions."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vqlab.errors import InputError
from vqlab.quantize.codebook import Codebook
from vqlab.quantize.search import code_sums, nearest_codes, similarities
from vqlab.quantize.transports import get_transport, transport
from vqlab.quantize.usage import perplexity, relative_error, utilisation


@dataclass
class QuantizerOutput:
    """What the layer returns.

    z_q: like z_e, every vector a code. indices: z_e's shape without the channel, int64.
    loss: scalar, β‖e−sg[q]‖² plus ‖sg[e]−q‖² where the codebook learns by gradient (means over elements).
    stats: scalars over this batch (the window): perplexity, utilisation, dead_codes, relative_error,
    z_e_norm and code_norm (means over tokens of ‖e‖ and ‖q‖), fallback_fraction, restarts.
    """

    z_q: Tensor
    indices: Tensor
    loss: Tensor
    stats: dict[str, Tensor] = field(default_factory=dict)


class VectorQuantizer(nn.Module):
    """Replaces every vector by its nearest code, with a chosen gradient transport.

    Input (B, D, *space) with ``channel_dim=1`` or (*any, D) with ``channel_dim=-1``; D is ``dim``.
    Axes and their values: the README's table. EMA codebook: van den Oord et al.,
    Neural Discrete Representation Learning, 2017, appendix A. Gumbel-softmax: Jang et al., 2016.
    Raises InputError for values out of range and for pairs of axes that make no sense.
    """

    def __init__(
        self,
        num_codes: int,
        dim: int,
        *,
        transport: str = "rotation",
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
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check_ranges(num_codes=num_codes, dim=dim, code_dim=dim if code_dim is None else code_dim)
        _check_choices(assignment=assignment, distance=distance, update=update, init=init, channel_dim=channel_dim)
        _check_pairs(assignment, update, get_transport(transport).name)
        if not 0 < decay < 1 or beta < 0 or temperature <= 0:
            raise InputError(
                f"decay={decay} must be in (0, 1), beta={beta} at least 0, temperature={temperature} above 0"
            )
        if restart_every < 0 or not 0 <= restart_share <= 1:
            raise InputError(
                f"restart_every={restart_every} must be at least 0 (0: off), restart_share={restart_share} in [0, 1]"
            )
        self.num_codes, self.dim, self.beta = num_codes, dim, beta
        self.transport, self.assignment, self.distance = transport, assignment, distance
        self.channel_dim, self.hard, self.temperature = channel_dim, hard, temperature
        inner = dim if code_dim is None else code_dim
        self.project_in = nn.Identity() if code_dim is None else nn.Linear(dim, inner)
        self.project_out = nn.Identity() if code_dim is None else nn.Linear(inner, dim)
        self.book = Codebook(
            num_codes, inner, update=update, init=init, decay=decay, distance=distance,
            restart_every=restart_every, restart_share=restart_share, seed=seed,
        )  # fmt: skip

    @property
    def codebook(self) -> Float[Tensor, "K C"]:
        """The codes, (num_codes, code_dim)."""
        return self.book.codes

    def extra_repr(self) -> str:
        """The axes, as ``print(module)`` shows them."""
        return (
            f"num_codes={self.num_codes}, dim={self.dim}, transport={self.transport}, "
            f"assignment={self.assignment}, distance={self.distance}"
        )

    def forward(self, z_e: Tensor) -> QuantizerOutput:
        """Quantize z_e; in training mode also move the codebook. Raises InputError for a wrong shape."""
        channel_last = self._channel_last(z_e)
        with torch.autocast(z_e.device.type, enabled=False):
            rows = channel_last.reshape(-1, self.dim)
            e = self.project_in(rows.to(torch.promote_types(rows.dtype, torch.float32)))
            self.book.prepare(e.detach(), training=self.training)
            if self.assignment == "gumbel" and self.training:
                code_rows, indices, q = self._gumbel_softmax(e)
            else:
                indices = nearest_codes(e.detach(), self.codebook.detach(), self.distance)
                q = F.embedding(indices, self.codebook)
                code_rows = self._apply_transport(e, q)
            loss = self._loss(e, q)
            counts, sums = code_sums(e.detach(), indices, self.num_codes)
            stats = self._stats(e.detach(), q.detach(), counts)
            restarts = self.book.update_codes(e.detach(), counts, sums) if self.training else 0
            stats["restarts"] = torch.tensor(float(restarts), device=e.device)
            z_q = self.project_out(code_rows).to(z_e.dtype).reshape(channel_last.shape)
        if self.channel_dim == 1:
            z_q = z_q.movedim(-1, 1)
        return QuantizerOutput(z_q, indices.reshape(channel_last.shape[:-1]), loss, stats)

    def decode(self, indices: Int[Tensor, ...]) -> Tensor:
        """z_q from indices alone, projection included; raises InputError for an index outside 0…K−1."""
        if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < self.num_codes:
            raise InputError(f"indices: must be in 0…{self.num_codes - 1}; were they made by another codebook?")
        z_q = self.project_out(F.embedding(indices, self.codebook))
        return z_q.movedim(-1, 1) if self.channel_dim == 1 else z_q

    def _channel_last(self, z_e: Tensor) -> Tensor:
        axis = self.channel_dim
        if z_e.dim() < 2 or z_e.shape[axis] != self.dim:
            raise InputError(
                f"z_e has shape {tuple(z_e.shape)}; axis {axis} must have dim={self.dim} (set channel_dim or dim)"
            )
        return z_e.movedim(1, -1) if axis == 1 else z_e

    def _apply_transport(self, e: Tensor, q: Tensor) -> Tensor:
        """The rows for the decoder, with the transport's way back; codes exactly, unless it trains by a value."""
        if get_transport(self.transport).value is None:
            return transport(e, q, self.transport)
        if not self.training:
            return transport(e, q, "straight_through")
        noise = torch.randn(e.shape, generator=self.book.generator(e.device), device=e.device, dtype=e.dtype)
        return transport(e, q, self.transport, noise)

    def _gumbel_softmax(self, e: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gumbel-softmax over the codes: rows for the decoder, indices, and the codes chosen."""
        logits = similarities(e, self.codebook, self.distance)
        uniform = torch.rand(logits.shape, generator=self.book.generator(e.device), device=e.device)
        noise = -torch.log(-torch.log(uniform.clamp(1e-10, 1 - 1e-7)))
        weights = torch.softmax((logits + noise) / self.temperature, dim=1)
        indices = weights.argmax(dim=1)
        q = F.embedding(indices, self.codebook)
        mixture = weights @ self.codebook
        return (q.detach() + (mixture - mixture.detach()) if self.hard else mixture), indices, q

    def _loss(self, e: Tensor, q: Tensor) -> Tensor:
        if len(e) == 0:
            return e.sum()
        loss = self.beta * F.mse_loss(e, q.detach())
        return loss + F.mse_loss(q, e.detach()) if self.book.update == "gradient" else loss

    @torch.no_grad()
    def _stats(self, e: Tensor, q: Tensor, counts: Tensor) -> dict[str, Tensor]:
        undefined = get_transport(self.transport).undefined(e, q)
        return {
            "perplexity": perplexity(counts),
            "utilisation": utilisation(counts),
            "dead_codes": (counts == 0).sum().float(),
            "relative_error": relative_error(e, q) if len(e) else e.new_zeros(()),
            "z_e_norm": e.norm(dim=1).sum() / max(1, len(e)),
            "code_norm": q.norm(dim=1).sum() / max(1, len(e)),
            "fallback_fraction": undefined.float().sum() / max(1, len(e)),
        }


def _check_ranges(**sizes: int) -> None:
    for name, value in sizes.items():
        if value < 1:
            raise InputError(f"{name}={value}: must be at least 1")


_CHOICES: dict[str, tuple[object, ...]] = {
    "assignment": ("nearest", "gumbel"),
    "distance": ("euclidean", "cosine"),
    "update": ("ema", "gradient"),
    "init": ("kmeans", "data", "uniform", "normal"),
    "channel_dim": (1, -1),
}


def _check_choices(**choices: object) -> None:
    for name, value in choices.items():
        if value not in _CHOICES[name]:
            raise InputError(f"{name}={value!r}: must be one of {', '.join(map(str, _CHOICES[name]))}")


def _check_pairs(assignment: str, update: str, kind: str) -> None:
    if assignment == "gumbel" and update != "gradient":
        raise InputError("update='ema' with assignment='gumbel': the softmax trains the codes; use update='gradient'")
    if assignment == "gumbel" and kind != "straight_through":
        raise InputError(
            f"transport={kind!r} with assignment='gumbel': the softmax carries the gradient itself; "
            "use transport='straight_through'"
        )
