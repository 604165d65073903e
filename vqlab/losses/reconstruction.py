"""The reconstruction term."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vqlab.config import LossConfig


def reconstruction_loss(
    reconstruction: Float[Tensor, "B 3 H W"],
    images: Float[Tensor, "B 3 H W"],
    config: LossConfig,
    pixel_variance: float,
) -> Float[Tensor, ""]:
    """Mean squared or absolute error of pixels in [0, 1], over ``pixel_variance`` if the Config asks."""
    error = F.mse_loss if config.reconstruction == "mse" else F.l1_loss
    loss = error(reconstruction.float(), images)
    return loss / pixel_variance if config.scale_by_variance else loss
