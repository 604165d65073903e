"""What a codebook rule sees of a training step."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor


class RuleStep(NamedTuple):
    """What a rule sees of a training step before each vector has its code.

    Attributes:
        e: Encoder vectors, (N, C), with a path for their gradient; rows that do not count hold 0.
        codes: The codes, (K, C), with a path for their gradient if an optimizer trains them; in ``after_step``, where
            the layer may have changed them in place, the book has them.
        rows: Whether a vector counts: it is finite and not masked, (N,).
        distance: ``"euclidean"`` or ``"cosine"``, as the layer searches.
        beta: The layer's β.
        decay: The layer's γ.
        temperature: The layer's τ.
        noise: Function that draws U(0, 1) of the shape of a tensor, from the layer's seed and step.
    """

    e: Float[Tensor, "N C"]
    codes: Float[Tensor, "K C"]
    rows: Bool[Tensor, " N"]
    distance: str
    beta: float
    decay: float
    temperature: float
    noise: Callable[[Tensor], Tensor]


class RuleBatch(NamedTuple):
    """What a rule sees of a training step once each vector has its code.

    Attributes:
        indices: Index of the code of each vector, (N,).
        output: The decoder's rows, (N, C), if the rule chose them; otherwise the codes.
        q: The codes, (N, C), with a path for their gradient if an optimizer trains them.
        counts: Number of vectors that count of each code on this rank, (K,).
        sums: Their sum on this rank, (K, C).
    """

    indices: Int[Tensor, " N"]
    output: Float[Tensor, "N C"]
    q: Float[Tensor, "N C"]
    counts: Float[Tensor, " K"]
    sums: Float[Tensor, "K C"]
