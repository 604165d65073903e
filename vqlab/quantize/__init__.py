"""The quantizer: the layer, nearest-code search, gradient transports, codebook, usage statistics.

Needs torch and jaxtyping only.
"""

# These modules register their transports and codebook rules when they are imported.
import vqlab.quantize.backward_transports  # noqa: F401
import vqlab.quantize.forward_transports  # noqa: F401
import vqlab.quantize.rules  # noqa: F401
from vqlab.quantize.binary import BinarySphericalQuantizer, LookupFreeQuantizer
from vqlab.quantize.codebook_rules import CodebookRule, get_rule, register_rule, rule_names
from vqlab.quantize.finite_scalar import FiniteScalarQuantizer
from vqlab.quantize.multi_head import MultiHeadQuantizer
from vqlab.quantize.output import QuantizerOutput
from vqlab.quantize.quantizer import Quantizer
from vqlab.quantize.residual import ResidualQuantizer
from vqlab.quantize.rule_batch import RuleBatch, RuleStep
from vqlab.quantize.sim_vq import SimVQ
from vqlab.quantize.tokens import TokenLayout
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
    "CodebookRule",
    "FiniteScalarQuantizer",
    "LookupFreeQuantizer",
    "MultiHeadQuantizer",
    "Quantizer",
    "QuantizerOutput",
    "ResidualQuantizer",
    "RuleBatch",
    "RuleStep",
    "SimVQ",
    "TokenLayout",
    "Transport",
    "VectorQuantizer",
    "get_rule",
    "get_transport",
    "register_backward",
    "register_forward",
    "register_rule",
    "rowwise_transport_names",
    "rule_names",
    "transport",
    "transport_gradient",
    "transport_names",
]
