"""What publications measured of the rotation trick against straight-through, by how healthy the codebook was."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_FIFTY = "Fifty et al., Restructuring Vector Quantization with the Rotation Trick, 2025"
_DIVEQ = "Vali et al., DiVeQ: Differentiable Vector Quantization, 2025"
_STABLE_VQ = "Tang et al., StableVQ, 2026 (dynamic straight-through, both with its region loss)"
_COLUMNS = ("source", "model and images", "measure", "straight-through", "RRT", "which is better")
# Each row: source, model, measure, value of straight-through, value of RRT; usage in per cent, and for each model the
# measure of the reconstructions and of their distribution that the source gives.
_ROWS = (
    (_FIFTY, "VQ-VAE, ImageNet 256, K = 1,024", "codes in use (%)", 100, 97),
    (_FIFTY, "VQ-VAE, ImageNet 256, K = 1,024", "reconstruction loss", 0.107, 0.116),
    (_FIFTY, "VQ-VAE, ImageNet 256, K = 1,024", "rFID", 106.1, 85.7),
    (_FIFTY, "VQ-VAE, ImageNet 64, K = 8,192", "codes in use (%)", 100, 99),
    (_FIFTY, "VQ-VAE, ImageNet 64, K = 8,192", "reconstruction loss", 0.028, 0.028),
    (_FIFTY, "VQ-VAE, ImageNet 64, K = 8,192", "rFID", 19.0, 16.5),
    (_FIFTY, "VQGAN, K = 1,024", "codes in use (%)", 95, 98),
    (_FIFTY, "VQGAN, K = 1,024", "rFID", 7.3, 4.6),
    (_FIFTY, "VQGAN f8, K = 16,384", "codes in use (%)", 2, 27),
    (_FIFTY, "VQGAN f8, K = 16,384", "rFID", 5.0, 1.1),
    (_DIVEQ, "AFHQ, 11 bits a vector", "PSNR (dB)", 20.0, 21.5),
    (_DIVEQ, "AFHQ, 11 bits a vector", "LPIPS", 0.373, 0.390),
    (_STABLE_VQ, "ImageNet, all codes in use", "PSNR (dB)", 21.19, 20.40),
    (_STABLE_VQ, "ImageNet, all codes in use", "rFID", 2.79, 3.64),
)
_LOWER_IS_BETTER = {"reconstruction loss", "rFID", "LPIPS"}


def published_rotation() -> pd.DataFrame:
    """List what publications measured of the rotation trick against straight-through.

    They disagree on reconstructions, so the table is to be read beside the study ``health``, which changes only how
    well the codebook is used.

    Returns:
        One row for each model and measure: both values, and which transport is better (``RRT``, ``straight-through``
        or ``equal``), by source, model and measure.

    Example:
        >>> published_rotation()["which is better"].value_counts().to_dict()
        {'RRT': 7, 'straight-through': 6, 'equal': 1}
    """
    import pandas as pd

    rows = [(*row, _better(*row[2:])) for row in _ROWS]
    return pd.DataFrame(rows, columns=_COLUMNS, dtype=object).set_index(["source", "model and images", "measure"])


def _better(measure: str, straight_through: float, rrt: float) -> str:
    if straight_through == rrt:
        return "equal"
    return "RRT" if (rrt < straight_through) == (measure in _LOWER_IS_BETTER) else "straight-through"
