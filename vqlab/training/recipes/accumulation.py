"""Results of forward passes over parts of a batch, and of the batch that they make up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vqlab.models import VQVAEOutput
from vqlab.quantize import QuantizerOutput
from vqlab.training.recipes.reconstruction import ReconstructionLoss


class PassResult(NamedTuple):
    """What a forward pass of a VQ-VAE and its losses give.

    Attributes:
        output: the output of the model.
        reconstruction: the reconstruction loss.
        loss: the loss to minimise, scalar.
        records: result of ``gradient_records``; empty if they are not recorded.
    """

    output: VQVAEOutput
    reconstruction: ReconstructionLoss
    loss: Tensor
    records: dict[str, Tensor]

    def detached(self) -> PassResult:
        """Leave out the graphs, which hold the activations of the pass.

        Returns:
            The same values.
        """
        output, losses = self.output, self.reconstruction
        z_q, indices, vq_loss, stats = output.quantized
        return PassResult(
            VQVAEOutput(
                output.reconstruction.detach(), output.z_e.detach(),
                QuantizerOutput(z_q.detach(), indices, vq_loss.detach(), stats),
            ),
            ReconstructionLoss(losses.pixels.detach(), losses.perceptual.detach(), losses.terms),
            self.loss.detach(),
            self.records,
        )  # fmt: skip


def join_results(results: Sequence[PassResult], shares: Sequence[float], quantized: QuantizerOutput) -> PassResult:
    """Join the results of the parts of a batch.

    Args:
        results: one for each part, without graphs.
        shares: share of each part in the images of the batch.
        quantized: the layer's output for the whole batch, with its statistics.

    Returns:
        The result of the batch: outputs in their order, means of losses.
    """

    def mean(values: Sequence[Tensor]) -> Tensor:
        return torch.stack([value * share for value, share in zip(values, shares, strict=True)]).sum()

    outputs, losses = [result.output for result in results], [result.reconstruction for result in results]
    vq_loss = mean([output.quantized.loss for output in outputs])
    return PassResult(
        VQVAEOutput(
            torch.cat([output.reconstruction for output in outputs]),
            torch.cat([output.z_e for output in outputs]),
            quantized._replace(loss=vq_loss),
        ),
        ReconstructionLoss(
            mean([loss.pixels for loss in losses]),
            mean([loss.perceptual for loss in losses]),
            {name: mean([loss.terms[name] for loss in losses]) for name in losses[0].terms},
        ),
        mean([result.loss for result in results]),
        {name: torch.cat([result.records[name] for result in results]) for name in results[0].records},
    )
