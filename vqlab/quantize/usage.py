"""Statistics of code usage. Each depends on its window (batch, epoch, data set), so report the window with it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

_NO_CODE = torch.iinfo(torch.int64).max


def perplexity(counts: Shaped[Tensor, " K"]) -> Float[Tensor, ""]:
    """Compute the perplexity of code usage, exp(−Σₖ pₖ log pₖ) with pₖ = countsₖ / Σ counts.

    It is the number of codes that would give the same entropy if all were used equally. It cannot exceed the number
    of counted tokens, so a small window gives a small value whatever the state of the codebook.

    Args:
        counts: Tokens per code in the window, (K,), at least 0.

    Returns:
        Scalar, float32, in 1…K; 1 if no token was counted.

    Example:
        >>> perplexity(torch.tensor([5.0, 5.0, 0.0, 0.0]))
        tensor(2.)
    """
    # An Apple GPU has no float64.
    wide = counts.double() if counts.device.type == "cpu" else counts.float()
    share = wide / counts.sum().clamp_min(1)
    return torch.special.entr(share).sum().exp().to(torch.float32)


def utilisation(counts: Shaped[Tensor, " K"]) -> Float[Tensor, ""]:
    """Compute the share of codes with at least one token in the window.

    Args:
        counts: Tokens per code in the window, (K,), at least 0.

    Returns:
        Scalar, float32, in 0…1.

    Example:
        >>> utilisation(torch.tensor([5.0, 1.0, 0.0, 0.0]))
        tensor(0.5000)
    """
    return (counts > 0).float().mean()


def usage_without_table(
    indices: Int[Tensor, " N"], rows: Bool[Tensor, " N"]
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """Compute the perplexity of code usage and the number of used codes without a count for each possible code.

    The indices are sorted, so memory and time depend on the number of vectors alone.

    Args:
        indices: Index of the code of each vector, (N,), int64, at least 0.
        rows: True, in a mask of (N,), for vectors that count.

    Returns:
        The perplexity, float32, 1 if no vector counts; and the number of used codes, int64.

    Example:
        >>> usage_without_table(torch.tensor([1 << 40, 7, 1 << 40, 7]), torch.ones(4, dtype=torch.bool))
        (tensor(2.), tensor(2))
    """
    # Vectors that do not count come last.
    slots = torch.where(rows, indices, _NO_CODE)
    ordered = slots.sort().values
    counted = ordered != _NO_CODE
    is_first = ordered != torch.cat([ordered.new_full((1,), -1), ordered])[:-1]
    # At most as many codes as vectors are used: the vectors of each are counted by the rank of its index.
    counts = torch.zeros(indices.shape, device=indices.device)
    counts = counts.scatter_add(0, is_first.cumsum(dim=0) - 1, counted.to(counts.dtype))
    return perplexity(counts), (is_first & counted).sum()


def squared_distances(e: Float[Tensor, "N D"], q: Float[Tensor, "N D"]) -> Float[Tensor, " N"]:
    """Compute ‖e−q‖² of each row.

    Args:
        e: Encoder vectors, (N, D).
        q: Their codes, (N, D).

    Returns:
        (N,), at least 0.

    Example:
        >>> squared_distances(torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 1.0]]))
        tensor([2.])
    """
    return F.mse_loss(e, q, reduction="none").sum(dim=1)


def bits_per_index(num_codes: float) -> float:
    """Compute log₂ of a number of codes.

    Args:
        num_codes: K for the bits of one index at fixed length, or the perplexity for the bits at its entropy; above 0.

    Returns:
        Bits.

    Example:
        >>> bits_per_index(512)
        9.0
    """
    return math.log2(num_codes)


def joint_entropy_bits(indices: Int[Tensor, "N n"], num_codes: int) -> float:
    """Compute the entropy of whole vectors of several codes, −Σ p log₂ p over the combinations that occur.

    It is at most the sum of the entropies of the places, and equal to it if they are independent (Shannon, "A
    mathematical theory of communication", 1948). N vectors show at most log₂ N bits, whatever the codes are. Memory and
    time do not depend on the number of possible combinations.

    Args:
        indices: Indices of N vectors in n places, 0…K−1, at least one vector.
        num_codes: K, the number of codes of each place.

    Returns:
        Bits of a vector.

    Example:
        >>> joint_entropy_bits(torch.tensor([[0, 0], [1, 1], [0, 0], [1, 1]]), 2)
        1.0
    """
    combination = torch.zeros_like(indices[:, 0], dtype=torch.int64)
    for place in indices.unbind(dim=1):
        # The number of a combination stays below N, so no product of all K is needed.
        combination = torch.unique(combination * num_codes + place, return_inverse=True)[1]
    share = torch.bincount(combination).double() / len(indices)
    return float(torch.special.entr(share).sum()) / math.log(2)


def uniform_perplexity(tokens: int, num_codes: int) -> float:
    """Approximate the perplexity of a window in which tokens choose codes uniformly at random.

    It is exp of the mean entropy for counts X ~ Poisson(m) with m = tokens/K, that is K·exp(log m − E[X log X]/m), and
    approaches K for tokens/K → ∞. Use it as the upper reference for a measured perplexity of the same window.

    Args:
        tokens: Tokens in the window, at least 1.
        num_codes: K, the number of codes, at least 1.

    Returns:
        The expected perplexity.

    Example:
        >>> round(uniform_perplexity(tokens=512, num_codes=512))
        289
    """
    mean = tokens / num_codes
    counts = torch.arange(1, int(mean + 12 * math.sqrt(mean) + 20), dtype=torch.float64)
    log_probability = counts * math.log(mean) - mean - torch.lgamma(counts + 1)
    entropy_loss = float((log_probability.exp() * counts * counts.log()).sum()) / mean
    return num_codes * math.exp(math.log(mean) - entropy_loss)


def gini_coefficient(counts: Shaped[Tensor, " K"]) -> Float[Tensor, ""]:
    """Compute the Gini coefficient of code usage (Gini, Variabilità e mutabilità, 1912).

    G = Σᵢ (2i − K − 1) xᵢ / (K Σᵢ xᵢ) with the counts x in ascending order and i = 1…K.

    Args:
        counts: Tokens per code in the window, (K,), at least 0.

    Returns:
        Scalar, float32: 0 if all codes are used equally, 1 − 1/K if one code takes all tokens; 0 without tokens.

    Example:
        >>> gini_coefficient(torch.tensor([0.0, 0.0, 0.0, 8.0]))
        tensor(0.7500)
    """
    ordered = counts.double().sort().values
    size = len(ordered)
    weights = 2 * torch.arange(1, size + 1, dtype=torch.float64, device=counts.device) - size - 1
    return ((weights * ordered).sum() / (size * ordered.sum()).clamp_min(1e-300)).to(torch.float32)


def windows_since_use(windows: Shaped[Tensor, "W K"]) -> Float[Tensor, " K"]:
    """Count the windows since each code was last used.

    Args:
        windows: Tokens per code in consecutive windows, oldest first, (W, K), at least 0.

    Returns:
        Number of windows, (K,), float32: 0 for a code used in the last window, W for a code that was never used.

    Example:
        >>> windows_since_use(torch.tensor([[1, 0, 3], [0, 0, 2]]))
        tensor([1., 2., 0.])
    """
    used = windows > 0
    age = used.flip(0).to(torch.uint8).argmax(dim=0)
    return torch.where(used.any(dim=0), age, len(windows)).to(torch.float32)


def usage_churn(windows: Shaped[Tensor, "W K"]) -> Float[Tensor, " W-1"]:
    """Compute how much the set of used codes changes from window to window, as Jaccard's distance.

    With A and B the sets of codes used in two consecutive windows it is |A △ B| / |A ∪ B|.

    Args:
        windows: Tokens per code in consecutive windows, oldest first, (W, K), at least 0.

    Returns:
        One value for each pair of consecutive windows, (W − 1,), in 0…1; 0 if neither window uses a code.

    Example:
        >>> usage_churn(torch.tensor([[1, 1, 0], [1, 0, 5]]))
        tensor([0.6667])
    """
    used = windows > 0
    before, after = used[:-1], used[1:]
    return (before ^ after).sum(dim=1) / (before | after).sum(dim=1).clamp_min(1)


def count_codes(indices: Int[Tensor, " *shape"], num_codes: int, codes_per_vector: int = 1) -> Int[Tensor, "n K"]:
    """Count the tokens of each code, by the place of the index in a vector.

    Args:
        indices: Indices in 0…K−1, (…, n) with n = ``codes_per_vector`` above 1, otherwise (…); −1 does not count.
        num_codes: K, the number of codes of each place.
        codes_per_vector: n, number of indices for one vector. Default 1.

    Returns:
        Counts, (n, K), int64.

    Example:
        >>> count_codes(torch.tensor([[0, 1], [0, -1]]), 2, 2).tolist()
        [[2, 0], [0, 1]]
    """
    places = indices.reshape(-1, codes_per_vector)
    offsets = num_codes * torch.arange(codes_per_vector, device=indices.device)
    slots = torch.where(places >= 0, places + offsets, num_codes * codes_per_vector)
    counts = torch.bincount(slots.flatten(), minlength=num_codes * codes_per_vector + 1)
    return counts[:-1].view(codes_per_vector, num_codes)
