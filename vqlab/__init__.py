"""vqlab: a lab for vector-quantized autoencoders and what the gradient does at the quantizer."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vqlab.config import Config as Config
    from vqlab.errors import InputError as InputError
    from vqlab.probe import probe as probe
    from vqlab.quantize import BinarySphericalQuantizer as BinarySphericalQuantizer
    from vqlab.quantize import FiniteScalarQuantizer as FiniteScalarQuantizer
    from vqlab.quantize import LookupFreeQuantizer as LookupFreeQuantizer
    from vqlab.quantize import MultiHeadQuantizer as MultiHeadQuantizer
    from vqlab.quantize import QuantizerOutput as QuantizerOutput
    from vqlab.quantize import ResidualQuantizer as ResidualQuantizer
    from vqlab.quantize import SimVQ as SimVQ
    from vqlab.quantize import VectorQuantizer as VectorQuantizer
    from vqlab.quantize import transport as transport
    from vqlab.training import Run as Run
    from vqlab.training import train as train

__version__ = "0.1.0"

_MODULE_OF = {
    "BinarySphericalQuantizer": "vqlab.quantize",
    "Config": "vqlab.config",
    "FiniteScalarQuantizer": "vqlab.quantize",
    "InputError": "vqlab.errors",
    "LookupFreeQuantizer": "vqlab.quantize",
    "MultiHeadQuantizer": "vqlab.quantize",
    "QuantizerOutput": "vqlab.quantize",
    "ResidualQuantizer": "vqlab.quantize",
    "Run": "vqlab.training",
    "SimVQ": "vqlab.quantize",
    "VectorQuantizer": "vqlab.quantize",
    "probe": "vqlab.probe",
    "train": "vqlab.training",
    "transport": "vqlab.quantize",
}
__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import vqlab`` stays fast."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'vqlab' has no attribute {name!r}")
    module = import_module(_MODULE_OF[name])
    # The package vqlab.probe is itself callable, see there.
    return module if name == "probe" else getattr(module, name)
