"""The VAE's objective."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass
class Elbo:
    """Means over the batch. loss: nats a pixel value, to minimise. kl: nats an image. variance: σ² of the pixels."""

    loss: Tensor
    kl: Tensor
    variance: Tensor


def negative_elbo(
    reconstruction: Float[Tensor, "B 3 H W"],
    images: Float[Tensor, "B 3 H W"],
    mean: Float[Tensor, "B L"],
    log_variance: Float[Tensor, "B L"],
    kl_weight: float = 1.0,
) -> Elbo:
    """−ELBO over the number P of pixel values: ½·log(2πe·σ²) + kl_weight·KL/P.

    Likelihood: pixels are Gaussian around the reconstruction with one variance σ², put at its best value for
    the batch, the mean squared error (Rybkin et al., Simple and Effective VAE Training with Calibrated
    Decoders, 2021). KL(N(μ, s²) ‖ N(0, 1)) = ½·Σ(μ² + s² − 1 − log s²) (Kingma and Welling,
    Auto-Encoding Variational Bayes, 2013, appendix B).
    """
    variance = (reconstruction.float() - images).square().mean().clamp_min(1e-8)
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).float().sum(1).mean()
    likelihood = 0.5 * (math.log(2 * math.pi * math.e) + variance.log())
    return Elbo(likelihood + kl_weight * kl / images[0].numel(), kl.detach(), variance.detach())
