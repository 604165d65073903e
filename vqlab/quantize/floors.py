"""Bounds below which float32 does not resolve a direction."""

# Squared length of ê+q̂ (or ê−q̂) below which its direction is not resolved: (1e-3 rad)².
DIRECTION_FLOOR = 1e-6
# Length of a vector below which its direction is not used.
NORM_FLOOR = 1e-12
