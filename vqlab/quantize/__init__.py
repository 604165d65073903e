"""The quantizer: the layer, nearest-code search, gradient transports, codebook, usage statistics.

Needs torch and jaxtyping only.
"""

# Both modules register their transports when they are imported.
import vqlab.quantize.backward_transports  # noqa: F401
import vqlab.quantize.forward_transports  # noqa: F401
from vqlab.quantize.binary import BinarySphericalQuantizer, LookupFreeQuantizer
from vqlab.quantize.finite_scalar import FiniteScalarQuantizer
from vqlab.quantize.multi_head import MultiHeadQuantizer
from vqlab.quantize.output import QuantizerOutput
from vqlab.quantize.sim_vq import SimVQ
from vqlab.quantize.transports import (
    Transport,
    get_transport,
    register_backward,
    register_forward,
    rowwise_transport_names,
    transport,
    transport_gradient,
    transport_names,
)
from vqlab.quantize.vector_quantizer import VectorQuantizer

__all__ = [
    "BinarySphericalQuantizer",
    "FiniteScalarQuantizer",
    "LookupFreeQuantizer",
    "MultiHeadQuantizer",
    "QuantizerOutput",
    "SimVQ",
    "Transport",
    "VectorQuantizer",
    "get_transport",
    "register_backward",
    "register_forward",
    "rowwise_transport_names",
    "transport",
    "transport_gradient",
    "transport_names",
]
