"""The reconstruction loss."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vqlab.config import LossConfig
from vqlab.quantize.projection import working_dtype


def reconstruction_loss(
    reconstruction: Float[Tensor, "B C H W"],
    images: Float[Tensor, "B C H W"],
    config: LossConfig,
    pixel_variance: float,
) -> Float[Tensor, ""]:
    """Compute the mean of (x − y)² or |x − y| over all pixel values.

    Args:
        reconstruction: reconstructed images x, in [0, 1].
        images: original images y, in [0, 1].
        config: ``reconstruction`` selects ``mse`` or ``l1``; ``scale_by_variance`` divides by ``pixel_variance``, so
            that the weight of the commitment loss has the same meaning for all data sets.
        pixel_variance: variance of the training pixels on [0, 1], above 0; see ``Images.variance``.

    Returns:
        The loss, a scalar.

    Example:
        >>> import torch
        >>> reconstruction_loss(torch.ones(1, 3, 2, 2), torch.zeros(1, 3, 2, 2), LossConfig(), pixel_variance=0.25)
        tensor(4.)
    """
    error = F.mse_loss if config.reconstruction == "mse" else F.l1_loss
    loss = error(reconstruction.to(working_dtype(reconstruction, images)), images)
    return loss / pixel_variance if config.scale_by_variance else loss
