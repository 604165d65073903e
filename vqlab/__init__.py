"""vqlab: a lab for vector-quantized autoencoders and what the gradient does at the quantizer."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Config": "vqlab.config",
    "InputError": "vqlab.errors",
    "QuantizerOutput": "vqlab.quantize",
    "Run": "vqlab.training",
    "VectorQuantizer": "vqlab.quantize",
    "probe": "vqlab.probing",
    "train": "vqlab.training",
    "transport": "vqlab.quantize",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Load a public name from its room when it is first used, so that import stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vqlab' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
