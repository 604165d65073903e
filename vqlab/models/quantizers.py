"""The quantizer that a Config describes."""

from __future__ import annotations

from vqlab.config import FIXED_CODES, QuantizerConfig
from vqlab.quantize import (
    BinarySphericalQuantizer,
    FiniteScalarQuantizer,
    LookupFreeQuantizer,
    MultiHeadQuantizer,
    Quantizer,
    ResidualQuantizer,
    SimVQ,
    VectorQuantizer,
)

# Schedules, which belong to the training, and what only some families have.
_NOT_OF_THE_LAYER = {
    "family", "temperature_end", "restart_until", "start_after", "levels", "heads", "shared", "joint", "level_dropout",
    "beam", "fsq_levels",
}  # fmt: skip
_TRANSPORT = {"transport", "transport_fraction"}


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
    if config.family in FIXED_CODES:
        return _fixed_codes(config)
    if config.family == "simvq":
        fields = {"num_codes", "dim", "code_dim", "distance", "beta", *_TRANSPORT}
        return SimVQ(**config.model_dump(include=fields), exact=False, seed=seed)
    # Ties by rounding as in version 0.1, so that its Runs are reproduced bit for bit.
    options = {**config.model_dump(exclude=_NOT_OF_THE_LAYER), "exact": False, "seed": seed}
    if config.family == "vq":
        return VectorQuantizer(**options)
    residual = config.model_dump(include={"joint", "level_dropout", "beam"}) if config.family == "residual" else {}
    if config.heads == 1:
        return ResidualQuantizer(levels=config.levels, shared=config.shared, **residual, **options)
    shared = {"shared": config.shared, "shared_levels": config.shared and config.levels > 1}
    return MultiHeadQuantizer(heads=config.heads, levels=config.levels, **shared, **residual, **options)


def _fixed_codes(config: QuantizerConfig) -> Quantizer:
    """A quantizer of scalars; its projections are initialised from torch's global generator."""
    transport = config.model_dump(include=_TRANSPORT)
    if config.family == "fsq":
        return FiniteScalarQuantizer(config.fsq_levels, config.dim, **transport)
    layer = LookupFreeQuantizer if config.family == "lfq" else BinarySphericalQuantizer
    return layer(config.num_codes.bit_length() - 1, config.dim, beta=config.beta, **transport)
