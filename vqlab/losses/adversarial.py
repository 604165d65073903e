"""Losses of a GAN's discriminator and generator, on the discriminator's logits (high means real)."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def discriminator_loss(real: Float[Tensor, " N"], fake: Float[Tensor, " M"], kind: str) -> Float[Tensor, ""]:
    """Compute the loss that the discriminator minimises.

    With r the scores of real images, f those of generated ones, σ the logistic function and means over each batch:

    * ``hinge``: mean max(0, 1 − r) + mean max(0, 1 + f). Source: Lim and Ye, Geometric GAN, 2017.
    * ``nonsaturating``: −mean log σ(r) − mean log(1 − σ(f)). Source: Goodfellow et al., Generative Adversarial Nets,
      2014.

    Args:
        real: scores of N real images.
        fake: scores of M generated images.
        kind: ``hinge`` or ``nonsaturating``.

    Returns:
        The loss, a scalar.

    Example:
        >>> import torch
        >>> discriminator_loss(torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.5]), "hinge")
        tensor(1.)
    """
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(fake: Float[Tensor, " M"], kind: str) -> Float[Tensor, ""]:
    """Compute the loss that the generator minimises.

    With f the scores of generated images and σ the logistic function:

    * ``hinge``: −mean f. Source: Lim and Ye, Geometric GAN, 2017.
    * ``nonsaturating``: −mean log σ(f). Source: Goodfellow et al., Generative Adversarial Nets, 2014.

    Args:
        fake: scores of M generated images.
        kind: ``hinge`` or ``nonsaturating``.

    Returns:
        The loss, a scalar.

    Example:
        >>> import torch
        >>> generator_loss(torch.tensor([-3.0, 0.5]), "hinge")
        tensor(1.2500)
    """
    return -fake.mean() if kind == "hinge" else F.softplus(-fake).mean()
