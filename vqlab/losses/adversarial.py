"""The two sides of a GAN; scores are logits, high for what the discriminator takes for real."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Scores = Float[Tensor, " B"]


def discriminator_loss(real: Scores, fake: Scores, kind: str) -> Float[Tensor, ""]:
    """``hinge``: max(0, 1−real) + max(0, 1+fake) (Lim and Ye, Geometric GAN, 2017); ``nonsaturating``: −log of right.

    Raises nothing; ``kind`` is GANConfig.loss.
    """
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(fake: Scores, kind: str) -> Float[Tensor, ""]:
    """``hinge``: −fake; ``nonsaturating``: −log σ(fake) (Goodfellow et al., Generative Adversarial Nets, 2014)."""
    return -fake.mean() if kind == "hinge" else F.softplus(-fake).mean()
