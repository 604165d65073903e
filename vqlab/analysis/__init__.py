"""Analysis of one trained Run, or of one layer."""

from vqlab.analysis.code_place import CodePlace
from vqlab.analysis.code_places import CodePlaces
from vqlab.analysis.codebook_rules import rule_statistics
from vqlab.analysis.layer_identities import fraction_maps, layer_statistics, transport_identities
from vqlab.analysis.plane import Plane
from vqlab.analysis.prior import prior_measures
from vqlab.analysis.reproduction import Reproduction, reproduce
from vqlab.analysis.samples import interpolate, nearest_training_images
from vqlab.analysis.tokenizer import Tokenizer
from vqlab.analysis.transport_probe import probe_medians, probe_transports
from vqlab.analysis.wrong_codes import place_ablation, wrong_code_scores

__all__ = [
    "CodePlace",
    "CodePlaces",
    "Plane",
    "Reproduction",
    "Tokenizer",
    "fraction_maps",
    "interpolate",
    "layer_statistics",
    "nearest_training_images",
    "place_ablation",
    "prior_measures",
    "probe_medians",
    "probe_transports",
    "reproduce",
    "rule_statistics",
    "transport_identities",
    "wrong_code_scores",
]
