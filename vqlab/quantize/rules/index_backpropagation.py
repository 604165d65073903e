"""The gradient reaches all codes through a softmax over them (IBQ)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vqlab.quantize.codebook_rules import Choice, CodebookRule, Needs, counted_mean, register_rule
from vqlab.quantize.rule_batch import RuleBatch, RuleStep
from vqlab.quantize.search import similarities


@register_rule("ibq", source="Shi et al., Taming Scalable Visual Tokenizer for Autoregressive Image Generation, 2024")
class IndexBackpropagation(CodebookRule):
    """Give the decoder the nearest code with the gradient of a softmax over all codes.

    With sₖ the similarity of e and cₖ, h the one-hot vector of i = argmaxₖ sₖ, and C the codes::

        p = softmax(s),   z = (h + p − sg[p])ᵀ C
        loss = ‖z − e‖² + ‖sg[cᵢ] − e‖² + β ‖cᵢ − sg[e]‖²,   means over all elements

    The loss takes the place of the layer's terms; β weighs the codebook term, as published. The publication has
    sₖ = e·cₖ. Here it is e·cₖ − ‖cₖ‖²/2, which is the same for codes of equal length and has its maximum at the nearest
    code, so that training and eval mode agree; with ``distance="cosine"`` it is the cosine. The entropy terms of the
    publication are ``entropy_weight`` and ``diversity_weight``. It holds an N×K matrix.
    """

    weight = 1.0
    replaces_terms = True
    needs: ClassVar[Needs] = {
        "update": ("gradient", "the softmax trains the codes"),
        "transport": ("straight_through", "the softmax defines the gradient"),
        "assignment": ("nearest", "the rule chooses the codes"),
    }

    def choose(self, step: RuleStep) -> Choice:
        """Choose the most similar codes; the decoder's rows carry the gradient of the softmax."""
        similarity = similarities(step.e, step.codes, step.distance)
        p = torch.softmax(similarity if step.distance == "cosine" else similarity / 2, dim=1)
        indices = similarity.argmax(dim=1)
        return indices, F.embedding(indices, step.codes) + (p - p.detach()) @ step.codes.detach()

    def loss(self, step: RuleStep, batch: RuleBatch) -> Float[Tensor, ""]:
        """Compute the three squared errors."""
        errors = (
            (batch.output - step.e).square()
            + (batch.q.detach() - step.e).square()
            + step.beta * (batch.q - step.e.detach()).square()
        )
        return counted_mean(errors, step.rows)
