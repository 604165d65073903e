"""What a study compares: the measures of a Run, and the mean of several seeds with its confidence interval."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

MEASURES = {
    "mse": "MSE",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "rfd_classifier": "rFD-classifier",
    "perplexity": "perplexity (window: test set)",
    "utilisation": "utilisation",
    "wall_seconds": "wall time (s)",
    "peak_memory_mib": "peak memory (MiB)",
}
_CONFIDENCE = 0.95


def confidence_interval(values: pd.Series) -> tuple[float, float, float]:
    """Mean and 95 % confidence interval by Student's t distribution.

    mean ± t(0.975, n − 1) · s / √n, with the sample standard deviation s (Student, "The probable error of a mean",
    1908).

    Args:
        values: one value for each seed; NaN is ignored.

    Returns:
        Mean, lower end and upper end, in the unit of the values; both ends are NaN for fewer than two values.

    Example:
        >>> import pandas as pd
        >>> [round(value, 2) for value in confidence_interval(pd.Series([1.0, 2.0, 3.0]))]
        [2.0, -0.48, 4.48]
    """
    from scipy import stats

    mean, count = float(values.mean()), int(values.count())
    if count < 2:
        return mean, math.nan, math.nan
    quantile = float(stats.t.ppf((1 + _CONFIDENCE) / 2, count - 1))
    half_width = quantile * float(values.std(ddof=1)) / math.sqrt(count)
    return mean, mean - half_width, mean + half_width


def format_interval(mean: float, low: float, high: float) -> str:
    """Write a mean and its confidence interval with four digits.

    Args:
        mean: the mean.
        low: lower end of the interval; NaN where there is none.
        high: upper end of the interval.

    Returns:
        ``mean [low, high]``, or the mean alone where ``low`` is NaN.

    Example:
        >>> format_interval(2.0, 1.23456, 2.76544)
        '2 [1.235, 2.765]'
    """
    return f"{mean:.4g}" if math.isnan(low) else f"{mean:.4g} [{low:.4g}, {high:.4g}]"
