"""First values of a codebook: k-means, data rows, uniform or normal random numbers."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vqlab.quantize.search import counts_and_sums, nearest_codes

_ITERATIONS = 10
_JITTER = 1e-3


def sample_rows(x: Float[Tensor, "N D"], count: int, generator: torch.Generator) -> Float[Tensor, "count D"]:
    """Draw random rows of x, without replacement while x has enough rows.

    If count > N, all N rows are used once and the rest is drawn with replacement plus normal noise of 10⁻³ standard
    deviations of each channel, so that no two codes are equal.

    Args:
        x: Vectors, (N, D), N at least 1.
        count: Number of rows to return, at least 0.
        generator: Source of the random numbers; its device may differ from x's.

    Returns:
        Rows, (count, D), a copy.

    Example:
        >>> sample_rows(torch.zeros(3, 2), 5, torch.Generator().manual_seed(0)).shape
        torch.Size([5, 2])
    """
    order = torch.randperm(len(x), generator=generator, device=generator.device).to(x.device, non_blocking=True)
    if count <= len(x):
        return x[order[:count]].clone()
    extra = torch.randint(len(x), (count - len(x),), generator=generator, device=generator.device).to(
        x.device, non_blocking=True
    )
    noise = torch.randn(len(extra), x.shape[1], generator=generator, device=generator.device).to(x, non_blocking=True)
    spread = x.std(dim=0, correction=0).clamp_min(1e-6)
    return torch.cat([x[order], x[extra] + _JITTER * spread * noise])


def replacement_rows(
    x: Float[Tensor, "N D"], rows: Bool[Tensor, " N"], replaced: Bool[Tensor, " K"], generator: torch.Generator
) -> Float[Tensor, "K D"]:
    """Draw a random row of x for each code that is replaced, without reading a value of x on the host.

    The rows are drawn without replacement while x has enough rows that count; where K > N, rows that are drawn again
    have normal noise of 10⁻³ standard deviations of each channel.

    Args:
        x: Vectors, (N, D), N at least 1.
        rows: True, in a mask of (N,), for rows that may be drawn.
        replaced: True, in a mask of (K,), for codes that are replaced.
        generator: Source of the random numbers; its device may differ from x's.

    Returns:
        Rows, (K, D); meaningful for the replaced codes, if any row may be drawn.

    Example:
        >>> x, replaced = torch.tensor([[1.0], [2.0]]), torch.tensor([False, True, True])
        >>> rows = torch.ones(2, dtype=torch.bool)
        >>> replacement_rows(x, rows, replaced, torch.Generator().manual_seed(0))[1:].flatten().sort().values
        tensor([1., 2.])
    """
    order = torch.randperm(len(x), generator=generator, device=generator.device).to(x.device, non_blocking=True)
    order = order[torch.argsort((~rows[order]).to(torch.uint8), stable=True)]
    place = (replaced.cumsum(0) - 1).clamp_min(0)
    available = rows.sum().clamp_min(1)
    drawn = x[order[place % available]]
    if len(replaced) <= len(x):
        return drawn
    noise = torch.randn(drawn.shape, generator=generator, device=generator.device).to(x, non_blocking=True)
    counted = torch.where(rows[:, None], x, 0)
    variance = torch.where(rows[:, None], x - counted.sum(0) / available, 0).square().sum(0) / available
    return drawn + torch.where((place >= available)[:, None], _JITTER * variance.sqrt().clamp_min(1e-6) * noise, 0)


def kmeans(
    x: Float[Tensor, "N D"],
    num_codes: int,
    generator: torch.Generator,
    distance: str = "euclidean",
    *,
    exact: bool = True,
) -> tuple[Float[Tensor, "K D"], Float[Tensor, " K"]]:
    """Cluster the rows of x with 10 iterations of Lloyd's algorithm (Lloyd, Least Squares Quantization in PCM, 1982).

    The first centres are random rows. A centre without rows keeps its value. N may be smaller than K.

    Args:
        x: Vectors, (N, D), N at least 1.
        num_codes: K, the number of centres.
        generator: Source of the random numbers.
        distance: How rows are assigned to centres: ``"euclidean"`` (default) or ``"cosine"``. Centres are means of
            rows in both cases.
        exact: As for ``nearest_codes``. Default True.

    Returns:
        The centres, (K, D), and the number of rows assigned to each, (K,).

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [9.0], [10.0]])
        >>> centres, counts = kmeans(x, 2, torch.Generator().manual_seed(0))
        >>> centres.sort(dim=0).values.tolist(), counts.tolist()
        ([[0.5], [9.5]], [2.0, 2.0])
    """
    centres = sample_rows(x, num_codes, generator)
    for _ in range(_ITERATIONS):
        counts, sums = counts_and_sums(x, nearest_codes(x, centres, distance, exact=exact), num_codes)
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], centres)
    counts, _ = counts_and_sums(x, nearest_codes(x, centres, distance, exact=exact), num_codes)
    return centres, counts


def random_codes(init: str, num_codes: int, dim: int, generator: torch.Generator) -> Float[Tensor, "K D"]:
    """Draw the codes that a codebook holds before it has received any data.

    ``"normal"`` draws from N(0, 1). All other values draw from U(−1/K, 1/K), as many public VQ-VAE implementations do.

    Args:
        init: The initialisation of the codebook: ``"normal"``, ``"uniform"``, ``"kmeans"`` or ``"data"``.
        num_codes: K, the number of codes.
        dim: D, the channels of a code.
        generator: Source of the random numbers.

    Returns:
        Codes, (K, D), float32.

    Example:
        >>> codes = random_codes("uniform", 4, 2, torch.Generator().manual_seed(0))
        >>> bool((codes.abs() <= 1 / 4).all())
        True
    """
    # Drawn where the generator is, whatever the default device and dtype are.
    codes = torch.empty(num_codes, dim, dtype=torch.float32, device=generator.device)
    if init == "normal":
        return codes.normal_(generator=generator)
    return (codes.uniform_(generator=generator) * 2 - 1) / num_codes
