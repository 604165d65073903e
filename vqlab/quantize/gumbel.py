"""Random code probabilities."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def gumbel_softmax(
    logits: Float[Tensor, "N K"], uniform: Float[Tensor, "N K"], temperature: float
) -> Float[Tensor, "N K"]:
    """Compute softmax((a + Gumbel noise) / τ), whose largest entry is a sample of softmax(a).

    Source: Jang, Gu and Poole, Categorical Reparameterization with Gumbel-Softmax, 2016.

    Args:
        logits: a, (N, K).
        uniform: Random numbers from U(0, 1), (N, K).
        temperature: τ, above 0.

    Returns:
        Weights, (N, K), each row of sum 1.

    Example:
        >>> gumbel_softmax(torch.zeros(1, 2), torch.full((1, 2), 0.5), 1.0)
        tensor([[0.5000, 0.5000]])
    """
    noise = -torch.log(-torch.log(uniform.clamp(1e-10, 1 - 1e-7)))
    return torch.softmax((logits + noise) / temperature, dim=1)
