"""Analysis of one trained Run, or of one layer."""

from vqlab.analysis.plane import Plane
from vqlab.analysis.samples import interpolate, nearest_training_images
from vqlab.analysis.tokenizer import Tokenizer
from vqlab.analysis.transport_probe import probe_transports

__all__ = ["Plane", "Tokenizer", "interpolate", "nearest_training_images", "probe_transports"]
