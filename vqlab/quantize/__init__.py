"""The quantizer: nearest-code search, gradient transport, codebook, usage, the layer. Torch only."""

import vqlab.quantize.reparameterization  # noqa: F401  (registers its transports)
from vqlab.quantize.layer import QuantizerOutput, VectorQuantizer
from vqlab.quantize.transports import (
    get_transport,
    register,
    register_forward,
    transport,
    transport_gradient,
    transport_names,
)

__all__ = [
    "QuantizerOutput",
    "VectorQuantizer",
    "get_transport",
    "register",
    "register_forward",
    "transport",
    "transport_gradient",
    "transport_names",
]
