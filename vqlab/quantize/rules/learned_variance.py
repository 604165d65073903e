"""Random codes of a Gaussian with a learned variance (SQ-VAE)."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vqlab.quantize.codebook_rules import Choice, CodebookRule, Needs, counted_mean, register_rule
from vqlab.quantize.gumbel import gumbel_softmax
from vqlab.quantize.rule_batch import RuleBatch, RuleStep
from vqlab.quantize.search import similarities

# The released configuration for CIFAR-10 starts at 20 with 64 channels, and advises more for more channels.
_VARIANCE_OF_A_CHANNEL = 20 / 64


@register_rule(
    "sq_vae",
    source="Takida et al., SQ-VAE: Variational Bayes on Discrete Representation with Self-annealed Stochastic "
    "Quantization, 2022",
)
class LearnedVariance(CodebookRule):
    """In training mode, give the decoder a random mixture of codes whose spread σ² is learned.

    With the layer's temperature τ, C the channels of a code, and H the entropy::

        aₖ = −‖e − cₖ‖² / (2σ²),   p = softmax(a)
        z = Σₖ wₖ cₖ,   w = softmax((a + Gumbel noise) / τ)
        loss = (‖e − z‖² / (2σ²) − H(p)) / C,   mean over all vectors

    The loss takes the place of the layer's terms. It is that of the publication over the number of elements, as the
    layer's own loss is a mean over elements; the publication adds it to half the logarithm of the squared error of the
    images. σ² starts at C · 20/64. In eval mode the nearest code is taken. It holds an N×K matrix.

    Args:
        num_codes: K, the number of codes.
        dim: C, the channels of a code.

    Attributes:
        log_variance: log σ², a parameter; the optimizer must train it.
    """

    weight = 1.0
    replaces_terms = True
    needs: ClassVar[Needs] = {
        "update": ("gradient", "the softmax trains the codes"),
        "transport": ("straight_through", "the softmax defines the gradient"),
        "assignment": ("nearest", "the rule chooses the codes"),
        "distance": ("euclidean", "the probabilities are those of a Gaussian"),
    }

    def __init__(self, num_codes: int, dim: int) -> None:
        super().__init__(num_codes, dim)
        self.log_variance = nn.Parameter(torch.tensor(math.log(dim * _VARIANCE_OF_A_CHANNEL)))

    def choose(self, step: RuleStep) -> Choice:
        """Draw the mixtures; the indices are those of their largest weights."""
        logits = self._logits(step)
        weights = gumbel_softmax(logits, step.noise(logits.detach()), step.temperature)
        return weights.argmax(dim=1), weights @ step.codes

    def loss(self, step: RuleStep, batch: RuleBatch) -> Float[Tensor, ""]:
        """Compute the two terms of the divergence from the prior."""
        log_p = torch.log_softmax(self._logits(step), dim=1)
        squares = (step.e - batch.output).square().sum(dim=1) / (2 * self.log_variance.exp())
        divergence = squares + (log_p.exp() * log_p).sum(dim=1)
        return counted_mean(divergence[:, None], step.rows) / self.dim

    def _logits(self, step: RuleStep) -> Float[Tensor, "N K"]:
        return similarities(step.e, step.codes, step.distance) / (2 * self.log_variance.exp())
