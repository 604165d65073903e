"""Batch normalisation over the batch of all ranks."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vqlab.quantize.projection import working_dtype
from vqlab.quantize.ranks import is_distributed, sum_over_ranks_with_graph


class JoinedBatchNorm2d(nn.BatchNorm2d):
    """``torch.nn.BatchNorm2d`` that takes mean and variance over the images of all ranks that train together.

    ``torch.nn.SyncBatchNorm`` does so on accelerators only. With one process it is ``BatchNorm2d``, with the same
    weights. The gradient is that of the joined batch if the losses of the ranks, each a mean over its images, are
    weighted by their shares of the images before the backward pass.

    Source: Ioffe and Szegedy, Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
    Shift, 2015.

    Example:
        >>> JoinedBatchNorm2d(3)(torch.zeros(2, 3, 4, 4)).shape
        torch.Size([2, 3, 4, 4])
    """

    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Normalise the channels.

        Args:
            input: feature maps of this rank; ranks may hold different numbers of images.

        Returns:
            The normalised maps, of the type of ``input``.
        """
        if not (self.training and is_distributed()):
            return super().forward(input)
        values = input.to(working_dtype(input, self.weight))
        own = torch.tensor([values.numel() / values.shape[1]], device=values.device)
        *sums, count = sum_over_ranks_with_graph(torch.cat([values.sum((0, 2, 3)), own])).split([values.shape[1], 1])
        centred = values - (sums[0] / count).view(1, -1, 1, 1)
        # From the mean on, since a variance from the sums of squares is rounded off where the mean is large.
        variance = sum_over_ranks_with_graph(centred.square().sum((0, 2, 3))) / count
        self._update_running_statistics(sums[0].detach() / count, variance.detach() * count / (count - 1))
        scale = self.weight * (variance + self.eps).rsqrt()
        return torch.addcmul(self.bias.view(1, -1, 1, 1), centred, scale.view(1, -1, 1, 1)).to(input.dtype)

    @torch.no_grad()
    def _update_running_statistics(self, mean: Tensor, variance: Tensor) -> None:
        statistics = self.running_mean, self.running_var, self.num_batches_tracked
        running_mean, running_var, batches = (cast(Tensor, values) for values in statistics)
        momentum = cast(float, self.momentum)
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(variance, momentum)
        batches.add_(1)
