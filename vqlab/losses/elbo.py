"""The evidence lower bound (ELBO), the objective of a VAE."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vqlab.quantize.projection import working_dtype
from vqlab.quantize.ranks import mean_over_ranks


@dataclass
class Elbo:
    """Terms of the ELBO, means over the batch.

    Attributes:
        loss: negative ELBO divided by the number of pixel values of an image, a scalar, nats. It has a gradient.
        kl: KL divergence of the posterior from the prior, a scalar, nats per image, without a gradient.
        variance: σ², variance of a pixel value around its reconstruction, a scalar, without a gradient.
    """

    loss: Float[Tensor, ""]
    kl: Float[Tensor, ""]
    variance: Float[Tensor, ""]


def negative_elbo(
    reconstruction: Float[Tensor, "B C H W"],
    images: Float[Tensor, "B C H W"],
    mean: Float[Tensor, "B L"],
    log_variance: Float[Tensor, "B L"],
    kl_weight: float = 1.0,
) -> Elbo:
    """Compute −ELBO / P = ½·log(2πe·σ²) + kl_weight·KL / P, where P = C·H·W.

    The likelihood is Gaussian around the reconstruction, with one variance σ² for all pixel values: the maximum
    likelihood estimate on the batch, which is the mean squared error (at least 1e-8). The KL divergence is
    KL(N(μ, s²) ‖ N(0, I)) = ½·Σ(μ² + s² − 1 − log s²).

    Source: Kingma and Welling, Auto-Encoding Variational Bayes, 2013, appendix B (KL); Rybkin et al., Simple and
    Effective VAE Training with Calibrated Decoders, 2021 (σ²).

    Args:
        reconstruction: reconstructed images, in [0, 1].
        images: original images, in [0, 1].
        mean: μ, mean of the posterior.
        log_variance: log s², log variance of the posterior.
        kl_weight: weight of the KL term, at least 0; 1 gives the ELBO. A smaller weight gives better reconstructions
            and worse samples.

    Returns:
        The loss and its parts.
    """
    squares = (reconstruction.to(working_dtype(reconstruction, images)) - images).square()
    variance = mean_over_ranks(squares.mean(), torch.tensor(len(images), device=images.device)).clamp_min(1e-8)
    divergences = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
    kl = divergences.to(working_dtype(mean, log_variance)).sum(1).mean()
    negative_log_likelihood = 0.5 * (math.log(2 * math.pi * math.e) + variance.log())
    return Elbo(negative_log_likelihood + kl_weight * kl / images[0].numel(), kl.detach(), variance.detach())
