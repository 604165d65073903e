"""The quantizer: nearest-code search, gradient transport, codebook, usage, the layer. Torch only."""

from vqlab.quantize.layer import QuantizerOutput, VectorQuantizer
from vqlab.quantize.transports import register, transport, transport_gradient, transport_names

__all__ = ["QuantizerOutput", "VectorQuantizer", "register", "transport", "transport_gradient", "transport_names"]
