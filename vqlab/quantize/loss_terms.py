"""Terms of the quantizer's loss: commitment and codebook term, entropy of the code probabilities, orthogonality."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from vqlab.quantize.ranks import mean_over_ranks
from vqlab.quantize.row_layout import mean_over
from vqlab.quantize.signatures import with_signature


class _MeanSquare(torch.autograd.Function):
    """The mean of squares that are known already by row, with the gradient of the differences."""

    generate_vmap_rule = True

    @staticmethod
    @with_signature
    def forward(one: Tensor, other: Tensor, squares: Tensor) -> Tensor:
        return squares.mean() / one.shape[1]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return torch.ops.aten.mse_loss_backward(grads[0], *ctx.saved_tensors, 1), None, None


def mean_square(
    one: Float[Tensor, "N C"],
    other: Float[Tensor, "N C"],
    squares: Float[Tensor, " N"],
    rows: Bool[Tensor, " N"] | None = None,
) -> Float[Tensor, ""]:
    """Compute the mean squared difference over all elements of some rows.

    Args:
        one: Vectors, (N, C); they get the gradient.
        other: Vectors, (N, C), without a gradient.
        squares: The squared differences of each row, summed, (N,), as they are known already.
        rows: The rows of the mean, True in a mask of (N,); other rows get no gradient. Default None: all rows.

    Returns:
        Scalar.

    Example:
        >>> mean_square(torch.zeros(2, 2), torch.tensor([[1.0, 1.0], [3.0, 3.0]]), torch.tensor([2.0, 18.0]))
        tensor(5.)
    """
    if rows is None:
        return _MeanSquare.apply(one, other.detach(), squares)
    return mean_over(torch.where(rows[:, None], one - other.detach(), 0).square().mean(dim=1), rows)


def code_entropies(
    logits: Float[Tensor, "N K"], rows: Bool[Tensor, " N"] | None = None
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Compute the entropy of a vector's code probabilities, and how far the mean probabilities are from uniform.

    With p_n = softmax(logits_n) they are meanₙ H(p_n), which is 0 where every vector is sure of its code, and
    log K − H(meanₙ p_n), which is 0 where all codes are equally likely (Yu et al., Language Model Beats Diffusion:
    Tokenizer is Key to Visual Generation, 2023, with the sign of a loss).

    Args:
        logits: Similarity of each vector to each code over the temperature, (N, K).
        rows: The vectors that count, True in a mask of (N,). Default None: all.

    Returns:
        The mean entropy and the distance from uniform, in nats, each in 0…log K.

    Example:
        >>> [round(float(value), 4) for value in code_entropies(torch.tensor([[99.0, 0.0], [99.0, 0.0]]))]
        [0.0, 0.6931]
    """
    rows = torch.ones(len(logits), dtype=torch.bool, device=logits.device) if rows is None else rows
    probabilities = torch.softmax(torch.where(rows[:, None], logits, 0), dim=1)
    mean = torch.where(rows[:, None], probabilities, 0).sum(dim=0) / rows.sum().clamp_min(1)
    mean = mean_over_ranks(mean, rows.sum())
    return mean_over(_entropy(probabilities), rows), math.log(logits.shape[1]) - _entropy(mean)


def bit_entropies(
    logits: Float[Tensor, "N L"], rows: Bool[Tensor, " N"], group_bits: int = 1
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Compute the terms of ``code_entropies`` for codes of L independent bits without a table of 2ᴸ codes.

    The probability of a code is the product over its bits, P(bit = 1) = σ(logit), so the entropy of a vector is the
    sum over its bits, exactly. The mean over vectors is no such product. Its entropy is replaced by the sum of the
    entropies of groups of g bits, which is an upper bound and exact for g = L (Zhao et al., Image and Video
    Tokenization with Binary Spherical Quantization, 2024, use 9). The mean probabilities of a group are one matrix
    product of its halves, in memory for N · 2^⌈g/2⌉ + 2ᵍ numbers.

    Args:
        logits: Log-odds of each bit of each vector, (N, L), finite.
        rows: True, in a mask of (N,), for vectors that count.
        group_bits: g, a divisor of L. Default 1.

    Returns:
        The mean entropy of a vector, and L log 2 minus the entropy of the mean probabilities, in nats, each in
        0…L log 2; 0 if no vector counts.

    Example:
        >>> logits = torch.tensor([[99.0, -99.0], [99.0, 99.0]])
        >>> [round(float(value), 4) for value in bit_entropies(logits, torch.ones(2, dtype=torch.bool))]
        [0.0, 0.6931]
    """
    each = -(torch.sigmoid(logits) * F.logsigmoid(logits) + torch.sigmoid(-logits) * F.logsigmoid(-logits)).sum(dim=1)
    groups = torch.sigmoid(logits).unflatten(1, (-1, group_bits))
    first, second = (_joint(part) for part in groups.split([group_bits // 2, group_bits - group_bits // 2], dim=2))
    total = rows.sum()
    shares = torch.where(rows[:, None, None], first, 0) / total.clamp_min(1)
    mean = mean_over_ranks(torch.einsum("ngi,ngj->gij", shares, second).flatten(start_dim=1), total)
    unevenness = logits.shape[1] * math.log(2) - _entropy(mean).sum()
    return mean_over(each, rows), torch.where(total > 0, unevenness, 0)


def _joint(ones: Float[Tensor, "N G b"]) -> Float[Tensor, "N G values"]:
    """Probabilities of the 2ᵇ values of b independent bits, each of which is 1 with a given probability."""
    joint = ones.new_ones((*ones.shape[:2], 1))
    for one in ones.unbind(dim=2):
        joint = torch.stack([joint * (1 - one[..., None]), joint * one[..., None]], dim=-1).flatten(start_dim=2)
    return joint


def _entropy(probabilities: Float[Tensor, "*rows K"]) -> Float[Tensor, " *rows"]:
    # The derivative of p log p at 0 is infinite.
    return -(probabilities * probabilities.clamp_min(1e-30).log()).sum(dim=-1)


def non_orthogonality(codes: Float[Tensor, "K C"]) -> Float[Tensor, ""]:
    """Compute the mean squared cosine between two different codes.

    It is ‖ĈĈᵀ‖² without the diagonal over K(K − 1), computed as ‖ĈᵀĈ‖², so that no K×K matrix is held (Shin et al.,
    Exploration into Translation-Equivariant Image Quantization, 2021).

    Args:
        codes: The codes, (K, C).

    Returns:
        Scalar in 0…1: 0 for orthogonal codes; 0 for one code.

    Example:
        >>> float(non_orthogonality(torch.eye(3)))
        0.0
    """
    unit = F.normalize(codes, dim=1)
    pairs = len(codes) * (len(codes) - 1)
    return ((unit.T @ unit).square().sum() - unit.square().sum(dim=1).square().sum()) / max(pairs, 1)
