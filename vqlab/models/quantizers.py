"""The quantizer that a Config describes."""

from __future__ import annotations

from vqlab.config import QuantizerConfig
from vqlab.quantize import MultiHeadQuantizer, Quantizer, ResidualQuantizer, VectorQuantizer

# Schedules, which belong to the training, and what only some families have.
_NOT_OF_THE_LAYER = {
    "family", "temperature_end", "restart_until", "start_after", "levels", "heads", "shared", "joint", "level_dropout",
    "beam",
}  # fmt: skip


def build_quantizer(config: QuantizerConfig, seed: int = 0) -> Quantizer:
    """Create the quantizer of a Config.

    Args:
        config: family and arguments of the layer.
        seed: seed of its codebooks.

    Returns:
        The layer, with ``channel_dim=1``.

    Raises:
        InputError: if the layer does not allow this combination of values.

    Example:
        >>> build_quantizer(QuantizerConfig(family="residual", levels=4, num_codes=16)).bits
        16.0
    """
    # Ties by rounding as in version 0.1, so that its Runs are reproduced bit for bit.
    options = {**config.model_dump(exclude=_NOT_OF_THE_LAYER), "exact": False, "seed": seed}
    if config.family == "vq":
        return VectorQuantizer(**options)
    residual = config.model_dump(include={"joint", "level_dropout", "beam"}) if config.family == "residual" else {}
    if config.heads == 1:
        return ResidualQuantizer(levels=config.levels, shared=config.shared, **residual, **options)
    shared = {"shared": config.shared, "shared_levels": config.shared and config.levels > 1}
    return MultiHeadQuantizer(heads=config.heads, levels=config.levels, **shared, **residual, **options)
