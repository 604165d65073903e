"""Bounds below and above which float32 does not resolve a direction or a ratio of lengths."""

# Squared length of ê+q̂ (or ê−q̂) below which its direction is not resolved: (1e-3 rad)².
DIRECTION_FLOOR = 1e-6
# Length of a vector below which its direction is not used.
NORM_FLOOR = 1e-12
# Largest λ = ‖q‖/‖e‖ that scales a gradient.
MAX_RESCALE = 1e6
# Added to the EMA counts, so that no code divides by 0 (Laplace smoothing).
LAPLACE = 1e-5
# Squared length of the codes' mean, in squared spreads around it, above which a product 2x·c loses two digits.
FAR = 100.0
