"""Code grids sampled from an autoregressive prior, code by code."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vqlab.errors import InputError

# Marks a cell of ``known_codes`` whose code is sampled.
UNKNOWN = -1

# Keys and values of each block, each (B, heads, tokens so far, width / heads); empty before the first token.
KeyValueCache = list[tuple[Tensor, Tensor]]


class CodePrior(Protocol):
    """The interface of an autoregressive prior for ``sample_codes``.

    Attributes:
        grid: height and width of the code grids.
        num_codes: K; codes are 0…K−1.
        codes_per_vector: n, number of codes of a cell, which follow each other.
        num_classes: labels are 0…num_classes−1; the label num_classes means no class.
    """

    grid: tuple[int, int]
    num_codes: int
    codes_per_vector: int
    num_classes: int

    @property
    def device(self) -> torch.device:
        """Device of the weights."""

    def labels_or_null(self, labels: Int[Tensor, " B"] | None, count: int) -> Int[Tensor, " B"]:
        """Return ``labels``, or ``count`` times the label that means no class if ``labels`` is None."""

    def logits(
        self, codes: Int[Tensor, "B T"], labels: Int[Tensor, " B"], cache: KeyValueCache | None = None
    ) -> tuple[Float[Tensor, "B N K"], KeyValueCache]:
        """Compute the logits of the codes 0…T, or with ``cache`` of code T only, and the new cache."""


@torch.no_grad()
def sample_codes(
    prior: CodePrior,
    count: int,
    *,
    label: int | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    known_codes: Int[Tensor, "h w *codes"] | None = None,
    generator: torch.Generator | None = None,
    use_cache: bool = True,
) -> Int[Tensor, "count h w *codes"]:
    """Sample code grids cell by cell in raster order, and in a cell of several codes place by place.

    Args:
        prior: a ``CodeTransformer``, or another object with the attributes and methods of ``CodePrior``.
        count: how many grids, at least 1.
        label: a class, 0…num_classes−1; None for no class.
        temperature: see ``filter_logits``.
        top_k: see ``filter_logits``.
        top_p: see ``filter_logits``.
        known_codes: codes to keep, and UNKNOWN (−1) for those to sample, of the shape of one grid. A sampled code
            depends only on the codes before it, known or sampled. None: sample all.
        generator: source of the random numbers, on the prior's device; None for one with seed 0.
        use_cache: keep the keys and values of each block instead of computing them again for every cell. The codes
            are the same; False needs less memory.

    Returns:
        The codes, int64, (count, h, w), or (count, h, w, n) with n codes for a cell.

    Raises:
        InputError: if ``count``, ``label``, a known code or a setting of ``filter_logits`` is out of range, or if
            ``known_codes`` has another shape than the grid.
    """
    shape, device = _grid_shape(prior), prior.device
    _check(prior, count, label, known_codes)
    generator = generator or torch.Generator(device).manual_seed(0)
    labels = prior.labels_or_null(None if label is None else torch.full((count,), label, device=device), count)
    known = [UNKNOWN] * math.prod(shape) if known_codes is None else known_codes.flatten().tolist()
    codes = torch.empty(count, 0, dtype=torch.long, device=device)
    cache: KeyValueCache | None = None
    for code in known:
        logits, new_cache = prior.logits(codes, labels, cache)
        cache = new_cache if use_cache else None
        probabilities = filter_logits(logits[:, -1].float(), temperature, top_k, top_p).softmax(1)
        sampled = torch.multinomial(probabilities, 1, generator=generator)
        codes = torch.cat([codes, sampled if code == UNKNOWN else torch.full_like(sampled, code)], dim=1)
    return codes.view(count, *shape)


def filter_logits(
    logits: Float[Tensor, "B K"], temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Float[Tensor, "B K"]:
    """Divide logits by a temperature and exclude unlikely codes.

    Source: Holtzman et al., The Curious Case of Neural Text Degeneration, 2020 (top-p).

    Args:
        logits: logits of the next code.
        temperature: above 0; below 1 makes likely codes more likely, above 1 makes all codes more equal.
        top_k: keep the k most likely codes, 1…K (and codes with the same logit as the last of them); None keeps all.
        top_p: keep the smallest set of most likely codes whose probabilities sum to at least this, in (0, 1], after
            ``top_k``; None keeps all.

    Returns:
        The logits, −∞ for excluded codes.

    Raises:
        InputError: if ``temperature``, ``top_k`` or ``top_p`` is out of range.

    Example:
        >>> filter_logits(torch.tensor([[1.0, 3.0, 2.0]]), top_k=2)
        tensor([[-inf, 3., 2.]])
    """
    num_codes = logits.shape[1]
    if not temperature > 0:
        raise InputError(f"temperature={temperature}: must be above 0")
    if top_k is not None and not 1 <= top_k <= num_codes:
        raise InputError(f"top_k={top_k}: must be in 1…{num_codes} (the number of codes), or None for all")
    if top_p is not None and not 0 < top_p <= 1:
        raise InputError(f"top_p={top_p}: must be above 0 and at most 1, or None for all")
    logits = logits / temperature
    if top_k is not None:
        smallest = logits.topk(top_k, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    if top_p is not None:
        probabilities, order = logits.softmax(1).sort(dim=1, descending=True)
        excluded = probabilities.cumsum(1) - probabilities >= top_p
        excluded[:, 0] = False
        logits = logits.masked_fill(torch.zeros_like(excluded).scatter(1, order, excluded), -torch.inf)
    return logits


def _grid_shape(prior: CodePrior) -> tuple[int, ...]:
    """Shape of one code grid."""
    return prior.grid if prior.codes_per_vector == 1 else (*prior.grid, prior.codes_per_vector)


def _check(prior: CodePrior, count: int, label: int | None, known_codes: Tensor | None) -> None:
    if count < 1:
        raise InputError(f"count={count}: must be at least 1")
    if label is not None and not 0 <= label < prior.num_classes:
        raise InputError(f"label={label}: must be in 0…{prior.num_classes - 1}, or None for no class")
    if known_codes is None:
        return
    if tuple(known_codes.shape) != _grid_shape(prior):
        raise InputError(
            f"known_codes has shape {tuple(known_codes.shape)}: must be {_grid_shape(prior)}, the grid of the prior"
        )
    if not UNKNOWN <= int(known_codes.min()) <= int(known_codes.max()) < prior.num_codes:
        raise InputError(
            f"known_codes has values {int(known_codes.min())}…{int(known_codes.max())}: must be in "
            f"0…{prior.num_codes - 1}, or {UNKNOWN} to sample the cell"
        )
