"""The layer on random vectors: identities of the gradient transports, and statistics along its other axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from vqlab.probe import Probe
from vqlab.quantize import VectorQuantizer, transport, transport_gradient, transport_names

if TYPE_CHECKING:
    import pandas as pd
    from jaxtyping import Float
    from torch import Tensor

ANGLE_ERROR = "largest |cos ∠(∇ₑ, e) − cos ∠(g, q)|"
FROM_ROTATION = "largest difference from rotation"
LENGTH_RATIO = "mean ‖∇ₑ‖/‖g‖"
VALUE_ERROR = "largest difference of the value from q"

# Arguments of the layer that differ from its default, by name of the row.
LAYER_VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "init=normal": {"init": "normal"},
    "init=uniform": {"init": "uniform"},
    "init=data": {"init": "data"},
    "distance=cosine": {"distance": "cosine"},
    "update=gradient": {"update": "gradient"},
    "code_dim=2": {"code_dim": 2},
    "gumbel": {"assignment": "gumbel", "update": "gradient", "transport": "straight_through"},
}


def transport_identities(count: int = 1000, dim: int = 8, seed: int = 0) -> pd.DataFrame:
    """Measure on random vectors which identities each registered transport has, in float64.

    Args:
        count: number of vectors.
        dim: dimension D of the vectors.
        seed: seed of the random vectors.

    Returns:
        One row for each transport. ``VALUE_ERROR``: largest difference of the output from the code q; ``ANGLE_ERROR``:
        how far the angle between gradient and vector is from that between g and q; ``FROM_ROTATION``: largest
        difference of the gradient from that of ``rotation``; ``LENGTH_RATIO``: mean length of the gradient over that
        of g.

    Example:
        >>> table = transport_identities(count=50)
        >>> bool(table.loc["rotation", ANGLE_ERROR] < 1e-9), bool(table.loc["straight_through", ANGLE_ERROR] < 1e-9)
        (True, False)
    """
    import pandas as pd

    e, q, g = _random_vectors(count, dim, seed)
    rotation = transport_gradient(g, e, q, "rotation")
    rows = {}
    for kind in transport_names():
        gradient = transport_gradient(g, e, q, kind)
        angle_error = F.cosine_similarity(gradient, e) - F.cosine_similarity(g, q)
        rows[kind] = {
            VALUE_ERROR: float((transport(e, q, kind) - q).abs().max()),
            ANGLE_ERROR: float(angle_error.abs().max()),
            FROM_ROTATION: float((gradient - rotation).abs().max()),
            LENGTH_RATIO: float((gradient.norm(dim=1) / g.norm(dim=1)).mean()),
        }
    return pd.DataFrame(rows).T


def layer_statistics(
    steps: int = 40, num_codes: int = 64, count: int = 1000, dim: int = 8, seed: int = 0
) -> pd.DataFrame:
    """Train the layer alone on random vectors, once for each of ``LAYER_VARIANTS``.

    Args:
        steps: training steps, each on the same vectors.
        num_codes: number of codes K.
        count: number of vectors.
        dim: dimension D of the vectors.
        seed: seed of the vectors and of the layer.

    Returns:
        One row for each variant: the statistics of the last step.
    """
    import pandas as pd

    vectors = _random_vectors(count, dim, seed)[0].float()
    rows = {}
    for name, arguments in LAYER_VARIANTS.items():
        layer = VectorQuantizer(num_codes, dim, channel_dim=-1, seed=seed, **arguments)
        for _ in range(steps):
            out = layer(vectors)
        rows[name] = {key: float(value) for key, value in out.stats.items()}
    return pd.DataFrame(rows).T.rename(columns={"perplexity": "perplexity (window: batch)"})


def _random_vectors(count: int, dim: int, seed: int) -> list[Float[Tensor, "N D"]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, dim, generator=generator, dtype=torch.float64) for _ in range(3)]


def fraction_maps(fractions: Sequence[float] = (0.0, 0.25, 0.5, 1.0), seed: int = 0) -> pd.DataFrame:
    """Compare the backward of the rotation by part of the angle with the known maps, as the probe measures it.

    Args:
        fractions: Values of ``transport_fraction``, in 0…1.
        seed: Seed of the random vectors and codes.

    Returns:
        The median residual of each known map, one column for each fraction.
    """
    import pandas as pd

    quantizer = VectorQuantizer(16, 8, channel_dim=-1, init="normal", beta=0, seed=seed).eval()
    z_e = torch.randn(256, 8, generator=torch.Generator().manual_seed(seed), requires_grad=True)
    columns = {}
    for fraction in fractions:
        quantizer.transport_fraction = fraction
        with Probe(quantizer) as measured:
            quantizer(z_e).z_q.pow(3).sum().backward()
        columns[f"t = {fraction:g}"] = measured.maps()["median residual"].sort_index()
    return pd.DataFrame(columns)
