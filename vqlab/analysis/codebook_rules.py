"""What the codebook rules do to a codebook that has collapsed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from vqlab.quantize import VectorQuantizer, get_rule, rule_names

if TYPE_CHECKING:
    import pandas as pd

_CODES, _DIM, _VECTORS, _TEST_VECTORS = 64, 8, 256, 4096
_LEARNING_RATE, _SPREAD = 0.04, 0.5
UTILISATION, PERPLEXITY, ERROR = "utilisation", "perplexity", "relative error"


def rule_statistics(
    rules: Sequence[str] | None = None, offset: float = 3.0, steps: int = 100, seed: int = 0
) -> pd.DataFrame:
    """Train 64 codes on random vectors that few of them are near, once for each codebook rule.

    The codes start at N(0, 1) and are trained by gradient (Adam, 0.04) on the layer's loss and ‖z_q − e‖², without
    restarts. The vectors are N(offset, 0.25) in 8 channels, 256 new ones in each step.

    Args:
        rules: Names of rules. Default None: all registered ones.
        offset: Mean of the vectors in each channel. With 3, one code is nearest to all of them.
        steps: Training steps.
        seed: Seed of the vectors and of the layer.

    Returns:
        One row for each rule: utilisation, perplexity and relative error in eval mode over 4,096 new vectors.
    """
    import pandas as pd

    rows = {rule: _statistics_of(rule, offset, steps, seed) for rule in rules or rule_names()}
    return pd.DataFrame(rows).T


def _statistics_of(rule: str, offset: float, steps: int, seed: int) -> dict[str, float]:
    needs = {name: value for name, (value, _) in getattr(get_rule(rule), "needs", {}).items() if value is not None}
    arguments: dict[str, Any] = {"update": "gradient", "init": "normal", "restart_every": 0, **needs}
    layer = VectorQuantizer(_CODES, _DIM, channel_dim=-1, rule=rule, seed=seed, **arguments)
    optimizer = torch.optim.Adam(layer.parameters(), _LEARNING_RATE)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        e = torch.randn(_VECTORS, _DIM, generator=generator) * _SPREAD + offset
        out = layer(e)
        optimizer.zero_grad()
        ((out.z_q - e).square().mean() + out.loss).backward()
        optimizer.step()
    stats = layer.eval()(torch.randn(_TEST_VECTORS, _DIM, generator=generator) * _SPREAD + offset).stats
    names = {UTILISATION: "utilisation", PERPLEXITY: "perplexity", ERROR: "relative_error"}
    return {name: float(stats[key]) for name, key in names.items()}
