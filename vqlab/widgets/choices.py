"""Allowed values and limits of the explorers' states, shared by the explorers and their views."""

from __future__ import annotations

# ReconstructionExplorer: effect of a click on a cell of the code grid, and the class name for all test images.
TOOLS = ("pick", "brush", "swap")
ALL_CLASSES = "all"

# CodebookExplorer: image patches shown for a code.
MAX_PATCHES = 24

# GradientExplorer: label of each quantity in angles.jsonl, and the transport name for the logged histograms.
QUANTITIES = {
    "angle_gradients": "angle of ∇ at z_q to ∇ at z_e (degrees)",
    "angle_codes": "angle of z_e to its code z_q (degrees)",
    "angle_at_q": "angle of ∇ at z_q to z_q (degrees)",
    "angle_at_e": "angle of ∇ at z_e to z_e (degrees)",
    "log_rescale": "log₁₀ λ, λ = ‖z_q‖/‖z_e‖",
    "log_length_ratio": "log₁₀ ‖∇ at z_e‖/‖∇ at z_q‖",
}
LOGGED = "as logged"

# PlaneExplorer: the plane is [−HALF_WIDTH, HALF_WIDTH]²; the origin moves by at most MAX_SHIFT along each axis.
HALF_WIDTH = 2.2
MAX_SHIFT = 100

# SampleExplorer: the label for sampling without a class, samples drawn at once, and the highest temperature.
ANY_CLASS = "any"
SAMPLE_COUNT = 8
MAX_TEMPERATURE = 3.0

# LiveTraining: label of each curve by its column in metrics.jsonl.
CURVES = {
    "psnr": "PSNR (dB)",
    "loss": "loss",
    "perplexity": "perplexity (line: batch, dots: held-out images)",
    "utilisation": "share of codes used (line: batch, dots: held-out images)",
    "gradient_cosine": "cos(∇ at z_q, ∇ at z_e)",
}
