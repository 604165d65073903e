"""Code grids sampled from an autoregressive prior, cell by cell."""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vqlab.errors import InputError

# In ``known_codes``: a cell whose code is to be sampled.
UNKNOWN = -1

# Keys and values of each block, (B, heads, tokens so far, width / heads) each; empty before the first token.
KeyValueCache = list[tuple[Tensor, Tensor]]


class CodePrior(Protocol):
    """What ``sample_codes`` needs of an autoregressive prior.

    Attributes:
        grid: height and width of the code grids.
        num_codes: K; codes are 0…K−1.
        num_classes: labels are 0…num_classes−1.
    """

    grid: tuple[int, int]
    num_codes: int
    num_classes: int

    @property
    def device(self) -> torch.device:
        """Where the weights are."""

    def labels_or_null(self, labels: Tensor | None, count: int) -> Int[Tensor, " count"]:
        """``labels``, or ``count`` times the label that means none."""

    def logits(
        self, codes: Int[Tensor, "B T"], labels: Int[Tensor, " B"], cache: KeyValueCache | None = None
    ) -> tuple[Float[Tensor, "B N K"], KeyValueCache]:
        """Logits of the cells up to T, or with ``cache`` of cell T alone, and the new cache."""


@torch.no_grad()
def sample_codes(
    prior: CodePrior,
    count: int,
    *,
    label: int | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    known_codes: Int[Tensor, "h w"] | None = None,
    generator: torch.Generator | None = None,
    use_cache: bool = True,
) -> Int[Tensor, "count h w"]:
    """Sample code grids in raster order.

    Args:
        prior: a ``CodeTransformer``, or another prior with the same methods.
        count: how many grids, at least 1.
        label: a class, 0…num_classes−1; None for no class.
        temperature: see ``filter_logits``.
        top_k: see ``filter_logits``.
        top_p: see ``filter_logits``.
        known_codes: codes to keep, UNKNOWN (−1) where one is to be sampled. A sampled cell depends on the cells
            before it, known or sampled, not on those after.
        generator: on the prior's device; None for one with seed 0.
        use_cache: keep the keys and values of each block instead of computing them again for every cell. The codes
            are the same; False needs less memory.

    Returns:
        The codes, int64.

    Raises:
        InputError: a value out of range, or known codes of another shape.
    """
    (height, width), device = prior.grid, prior.device
    _check(prior, count, label, known_codes)
    generator = generator or torch.Generator(device).manual_seed(0)
    labels = prior.labels_or_null(None if label is None else torch.full((count,), label, device=device), count)
    known = [UNKNOWN] * (height * width) if known_codes is None else known_codes.flatten().tolist()
    codes = torch.empty(count, 0, dtype=torch.long, device=device)
    cache: KeyValueCache | None = None
    for code in known:
        logits, new_cache = prior.logits(codes, labels, cache)
        cache = new_cache if use_cache else None
        probabilities = filter_logits(logits[:, -1].float(), temperature, top_k, top_p).softmax(1)
        sampled = torch.multinomial(probabilities, 1, generator=generator)
        codes = torch.cat([codes, sampled if code == UNKNOWN else torch.full_like(sampled, code)], dim=1)
    return codes.view(count, height, width)


def filter_logits(
    logits: Float[Tensor, "B K"], temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Float[Tensor, "B K"]:
    """Divide logits by a temperature and exclude unlikely codes.

    Source: Holtzman et al., The Curious Case of Neural Text Degeneration, 2020 (top-p).

    Args:
        logits: of the next code.
        temperature: above 0; under 1 the likely codes become likelier, above 1 all become more alike.
        top_k: 1…K; only the k likeliest codes remain (and those that tie with the last of them). None: all.
        top_p: in (0, 1]; only the fewest codes that together have this probability remain, after ``top_k``.
            None: all.

    Returns:
        The logits, −∞ for excluded codes.

    Raises:
        InputError: a value out of range.
    """
    num_codes = logits.shape[1]
    if not temperature > 0:
        raise InputError(f"temperature={temperature}: must be above 0")
    if top_k is not None and not 1 <= top_k <= num_codes:
        raise InputError(f"top_k={top_k}: must be in 1…{num_codes}, the number of codes")
    if top_p is not None and not 0 < top_p <= 1:
        raise InputError(f"top_p={top_p}: must be above 0 and at most 1")
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


def _check(prior: CodePrior, count: int, label: int | None, known_codes: Tensor | None) -> None:
    if count < 1:
        raise InputError(f"count={count}: must be at least 1")
    if label is not None and not 0 <= label < prior.num_classes:
        raise InputError(f"label={label}: must be in 0…{prior.num_classes - 1}, or None for no class")
    if known_codes is None:
        return
    if tuple(known_codes.shape) != prior.grid:
        raise InputError(f"known_codes has shape {tuple(known_codes.shape)}: must be {prior.grid}, that of the codes")
    if not UNKNOWN <= int(known_codes.min()) <= int(known_codes.max()) < prior.num_codes:
        raise InputError(f"known_codes: must be in 0…{prior.num_codes - 1}, or {UNKNOWN} where one is to be sampled")
