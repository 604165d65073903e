"""What the state of each explorer may hold, for the explorers and their views."""

from __future__ import annotations

# Reconstruction explorer: what a click on a cell of the code grid does, and the class that stands for all.
TOOLS = ("pick", "brush", "swap")
ALL_CLASSES = "all"

# Codebook explorer: most image patches shown for a code.
MAX_PATCHES = 24

# Gradient explorer: quantities by their name in the logs, and the transport that stands for the logs.
QUANTITIES = {
    "angle_gradients": "angle of ∇ at z_q to ∇ at z_e (degrees)",
    "angle_codes": "angle of z_e to its code z_q (degrees)",
    "angle_at_q": "angle of ∇ at z_q to z_q (degrees)",
    "angle_at_e": "angle of ∇ at z_e to z_e (degrees)",
    "log_rescale": "log₁₀ λ, λ = ‖z_q‖/‖z_e‖",
    "log_length_ratio": "log₁₀ ‖∇ at z_e‖/‖∇ at z_q‖",
}
LOGGED = "as logged"

# Plane explorer: the plane is [−HALF_WIDTH, HALF_WIDTH]², and the farthest that the origin may be moved.
HALF_WIDTH = 2.2
MAX_SHIFT = 100

# Sample explorer: the label that stands for no class, samples drawn at once, and the highest temperature.
ANY_CLASS = "any"
SAMPLE_COUNT = 8
MAX_TEMPERATURE = 3.0

# Live training: curves by their column in metrics.jsonl.
CURVES = {
    "psnr": "PSNR (dB)",
    "loss": "loss",
    "perplexity": "perplexity (line: batch, dots: test set)",
    "utilisation": "share of codes used (line: batch, dots: test set)",
    "gradient_cosine": "cos(∇ at z_q, ∇ at z_e)",
}
