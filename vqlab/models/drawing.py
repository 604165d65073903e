"""Code grids drawn from a transformer, cell by cell."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vqlab.errors import InputError
from vqlab.models.transformer import Cache, CodeTransformer

FREE = -1


@torch.no_grad()
def sample_codes(
    prior: CodeTransformer,
    count: int,
    *,
    label: int | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    given: Int[Tensor, "h w"] | None = None,
    generator: torch.Generator | None = None,
    cached: bool = True,
) -> Int[Tensor, "count h w"]:
    """``count`` code grids, int64, in raster order.

    label: a class, 0…num_classes−1; None for none. temperature, top_k, top_p: see ``sharpened``. given: codes to
    keep, FREE (−1) where one is to be drawn; a drawn cell sees the cells before it, given or drawn, not those
    after. generator: on the prior's device; None for one with seed 0. cached: keep each block's keys and values
    instead of computing them again for every cell; the codes are the same. Raises InputError for values out of range.
    """
    (height, across), device = prior.grid, prior.code.weight.device
    _check(prior, count, label, given)
    generator = generator or torch.Generator(device).manual_seed(0)
    labels = prior.told(None if label is None else torch.full((count,), label, device=device), count)
    fixed = [FREE] * (height * across) if given is None else given.flatten().tolist()
    codes = torch.empty(count, 0, dtype=torch.long, device=device)
    past: Cache | None = None
    for code in fixed:
        logits, now = prior.logits(codes, labels, past)
        past = now if cached else None
        weights = sharpened(logits[:, -1].float(), temperature, top_k, top_p).softmax(1)
        drawn = torch.multinomial(weights, 1, generator=generator)
        codes = torch.cat([codes, drawn if code == FREE else torch.full_like(drawn, code)], dim=1)
    return codes.view(count, height, across)


def sharpened(
    logits: Float[Tensor, "B K"], temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Float[Tensor, "B K"]:
    """Logits over ``temperature`` (above 0), −∞ for codes that may not be drawn.

    top_k (1…K): only the k likeliest may (ties with the last of them too). top_p in (0, 1]: only the fewest that
    together have that probability (Holtzman et al., The Curious Case of Neural Text Degeneration, 2020), after top_k.
    Raises InputError for values out of range.
    """
    size = logits.shape[1]
    if not temperature > 0:
        raise InputError(f"temperature={temperature}: must be above 0")
    if top_k is not None and not 1 <= top_k <= size:
        raise InputError(f"top_k={top_k}: must be in 1…{size}, the number of codes")
    if top_p is not None and not 0 < top_p <= 1:
        raise InputError(f"top_p={top_p}: must be above 0 and at most 1")
    logits = logits / temperature
    if top_k is not None:
        least = logits.topk(top_k, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if top_p is not None:
        weights, order = logits.softmax(1).sort(dim=1, descending=True)
        beyond = weights.cumsum(1) - weights >= top_p
        beyond[:, 0] = False
        logits = logits.masked_fill(torch.zeros_like(beyond).scatter(1, order, beyond), -torch.inf)
    return logits


def _check(prior: CodeTransformer, count: int, label: int | None, given: Tensor | None) -> None:
    if count < 1:
        raise InputError(f"count={count}: must be at least 1")
    if label is not None and not 0 <= label < prior.num_classes:
        raise InputError(f"label={label}: must be in 0…{prior.num_classes - 1}, or none")
    if given is None:
        return
    if tuple(given.shape) != prior.grid:
        raise InputError(f"given has shape {tuple(given.shape)}: must be {prior.grid}, the grid of the codes")
    if not FREE <= int(given.min()) <= int(given.max()) < prior.num_codes:
        raise InputError(f"given: must hold codes in 0…{prior.num_codes - 1}, or {FREE} where one is to be drawn")
