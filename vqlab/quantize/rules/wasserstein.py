"""Mean and covariance of the codes follow those of the encoder vectors (Wasserstein VQ)."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vqlab.quantize.codebook import Codebook
from vqlab.quantize.codebook_rules import CodebookRule, Needs, register_rule
from vqlab.quantize.ranks import sum_over_ranks
from vqlab.quantize.rule_batch import RuleBatch, RuleStep

_RIDGE, _EIGENVALUE_FLOOR, _SQUARE_FLOOR = 1e-6, 1e-8, 1e-10


class Moments(NamedTuple):
    """Number, mean and scatter of vectors.

    Attributes:
        number: Number of vectors, scalar or (W,).
        mean: Their mean, (C,) or (W, C).
        scatter: Sum of the products of their deviations from it, (C, C) or (W, C, C).
    """

    number: Float[Tensor, "*W"]
    mean: Float[Tensor, "*W C"]
    scatter: Float[Tensor, "*W C C"]


@register_rule(
    "wasserstein",
    source="Fang et al., Enhancing Vector Quantization with Distributional Matching: A Theoretical and Empirical "
    "Study, 2025",
)
class Wasserstein(CodebookRule):
    """Add the Wasserstein distance between the Gaussians of encoder vectors and codes; the codes get its gradient.

    With means μ and covariances Σ of the vectors (z) and of the codes (c)::

        loss = √(‖μ_z − μ_c‖² + tr(Σ_z + Σ_c − 2 (Σ_z^½ Σ_c Σ_z^½)^½))

    The moments of the vectors are those of a queue: the last ``window`` batches, the present one included, of which
    number, mean and scatter are kept. The publication keeps the vectors themselves, 65,536 of them; the moments are
    the same. The published weight is 0.5, with β = 0.1. The two eigendecompositions, of C×C matrices, wait for the
    device on an accelerator.

    Args:
        num_codes: K, the number of codes.
        dim: C, the channels of a code.
        window: Number of batches in the queue, at least 1. Default 32, which is 65,536 vectors for 2,048 in a batch.

    Attributes:
        counts: Vectors of each batch of the queue, (window,).
        means: Their means, (window, C).
        scatters: Their scatters, (window, C, C).
        place: Place of the oldest batch, int64 scalar.
    """

    weight = 0.5
    needs: ClassVar[Needs] = {"update": ("gradient", "its term trains the codes")}
    counts: Tensor
    means: Tensor
    scatters: Tensor
    place: Tensor

    def __init__(self, num_codes: int, dim: int, window: int = 32) -> None:
        super().__init__(num_codes, dim)
        self.register_buffer("counts", torch.zeros(window))
        self.register_buffer("means", torch.zeros(window, dim))
        self.register_buffer("scatters", torch.zeros(window, dim, dim))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    def loss(self, step: RuleStep, batch: RuleBatch) -> Float[Tensor, ""]:
        """Compute the distance between the moments."""
        moments = join_moments(self._queue_with(batch_moments(step.e.detach(), step.rows)))
        return gaussian_distance(moments, step.codes)

    def after_step(self, step: RuleStep, batch: RuleBatch, book: Codebook) -> None:
        """Put the moments of the batch in the place of the oldest."""
        queue = self._queue_with(batch_moments(step.e, step.rows))
        for buffer, values in zip((self.counts, self.means, self.scatters), queue, strict=True):
            buffer.copy_(values)
        self.place.copy_((self.place + 1) % len(self.counts))

    def _queue_with(self, newest: Moments) -> Moments:
        """The moments of the batches of the queue, with those of a batch in the place of the oldest."""
        oldest = torch.arange(len(self.counts), device=self.place.device) == self.place
        return Moments(
            torch.where(oldest, newest.number, self.counts),
            torch.where(oldest[:, None], newest.mean, self.means),
            torch.where(oldest[:, None, None], newest.scatter, self.scatters),
        )


def batch_moments(e: Float[Tensor, "N C"], rows: Bool[Tensor, " N"]) -> Moments:
    """Compute the moments of the vectors of all ranks that count.

    Args:
        e: Encoder vectors, (N, C), finite.
        rows: The vectors that count, True in a mask of (N,).

    Returns:
        The moments; 0 without vectors.
    """
    number = sum_over_ranks(rows.sum().to(e.dtype))
    mean = sum_over_ranks(torch.where(rows[:, None], e, 0).sum(dim=0)) / number.clamp_min(1)
    deviations = torch.where(rows[:, None], e - mean, 0)
    return Moments(number, mean, sum_over_ranks(deviations.T @ deviations))


def join_moments(parts: Moments) -> Moments:
    """Compute the moments of several batches together.

    Args:
        parts: Moments of each batch, with an axis of batches.

    Returns:
        The moments of all their vectors.
    """
    number = parts.number.sum()
    mean = (parts.number[:, None] * parts.mean).sum(dim=0) / number.clamp_min(1)
    shifts = parts.mean - mean
    return Moments(number, mean, parts.scatter.sum(dim=0) + (parts.number[:, None] * shifts).T @ shifts)


def gaussian_distance(vectors: Moments, codes: Float[Tensor, "K C"]) -> Float[Tensor, ""]:
    """Compute the 2-Wasserstein distance between the Gaussians of vectors and codes.

    Args:
        vectors: Moments of the vectors, without a gradient.
        codes: The codes, (K, C).

    Returns:
        Scalar, at least 0; 0 without vectors.

    Example:
        >>> codes = torch.tensor([[0.0, 3.0], [0.0, -3.0], [3.0, 0.0], [-3.0, 0.0]])
        >>> vectors = batch_moments(codes + torch.tensor([3.0, 4.0]), torch.ones(4, dtype=torch.bool))
        >>> round(float(gaussian_distance(vectors, codes)), 3)
        5.0
    """
    ridge = _RIDGE * torch.eye(codes.shape[1], dtype=codes.dtype, device=codes.device)
    covariance = (vectors.scatter / (vectors.number - 1).clamp_min(1)).to(codes.dtype) + ridge
    mean = codes.mean(dim=0)
    own = (codes - mean).T @ (codes - mean) / max(len(codes) - 1, 1) + ridge
    eigenvalues, axes = torch.linalg.eigh(covariance)
    root = (axes * eigenvalues.clamp_min(0).sqrt()) @ axes.T
    product = root @ own @ root
    overlap = (torch.linalg.eigvalsh((product + product.T) / 2).clamp_min(0) + _EIGENVALUE_FLOOR).sqrt().sum()
    spread = (covariance.trace() + own.trace() - 2 * overlap).clamp_min(0)
    distance = ((vectors.mean - mean).square().sum() + spread + _SQUARE_FLOOR).sqrt()
    return torch.where(vectors.number > 0, distance, 0)
