"""What a study compares: the measures of a Run, and the mean of several seeds with its confidence interval."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vqlab.config import Config

if TYPE_CHECKING:
    import pandas as pd

MEASURES = {
    "mse": "MSE",
    "psnr": "PSNR (dB)",
    "psnr_pooled": "pooled PSNR (dB)",
    "ssim": "SSIM",
    "rfd_classifier": "rFD-classifier",
    "perplexity": "perplexity (window: data set)",
    "utilisation": "utilisation",
    "wall_seconds": "wall time (s)",
    "peak_memory_mib": "peak memory (MiB)",
}
# What tells families of quantizers apart, by key: how well the codes are used, what they cost, and their speed.
CODE_MEASURES = {
    "cvu": "CVU (perplexity / K)",
    "bits_a_vector": "bits a vector",
    "entropy_bits_a_vector": "entropy bits a vector (sum over places)",
    "joint_entropy_bits_a_vector": "entropy bits a vector (joint)",
    "bits_an_image": "bits an image",
    "parameters": "parameters",
    "tokens_a_second": "tokens a second",
    "quantization_error": "quantization error |z_e − z_q|² / |z_e|²",
}
PSNR_LEVELS = (22, 24, 25)
# Of ``time_to_psnr``, by key: what it took until the training batches reached a PSNR.
SPEED_MEASURES = {
    **{f"images_to_{level}": f"images to {level} dB" for level in PSNR_LEVELS},
    **{f"seconds_to_{level}": f"seconds to {level} dB" for level in PSNR_LEVELS},
}
_CONFIDENCE = 0.95
# Images of the logged batches over which PSNR is averaged before it is compared with a level.
_SMOOTHED_IMAGES = 1000


def time_to_psnr(rows: pd.DataFrame, batch_size: int, total_images: int, wall_seconds: float) -> dict[str, float]:
    """Compute how many images and seconds a training needs to reach each of ``PSNR_LEVELS``.

    PSNR is that of the logged training batches, in a centred moving average over about 1,000 logged images. Seconds
    are images × wall time of the Run ÷ images of the Run.

    Args:
        rows: ``run.metrics()``; rows of kind ``train`` with ``step`` and ``psnr`` (dB) are used.
        batch_size: images in a step.
        total_images: images of the whole training.
        wall_seconds: wall time of the whole training.

    Returns:
        Keys of ``SPEED_MEASURES``; NaN for a level that was not reached.

    Example:
        >>> import pandas as pd
        >>> rows = pd.DataFrame({"kind": "train", "step": [1, 11, 21], "psnr": [20.0, 23.0, 24.5]})
        >>> time_to_psnr(rows, 1000, 30_000, 60.0)["images_to_24"]
        21000.0
    """
    logged = rows[rows["kind"] == "train"]
    window = max(1, round(_SMOOTHED_IMAGES / batch_size))
    smoothed = logged["psnr"].rolling(window, center=True, min_periods=1).mean()
    times = {}
    for level in PSNR_LEVELS:
        reached = logged["step"][smoothed >= level]
        images = float(reached.iloc[0] * batch_size) if len(reached) else math.nan
        times[f"images_to_{level}"] = images
        times[f"seconds_to_{level}"] = images / total_images * wall_seconds
    return times


def code_measures(config: Config, steps: int, wall_seconds: float) -> dict[str, float]:
    """Compute the bits of the codes of a VQ-VAE at fixed length, and the speed of its training.

    Args:
        config: the Config.
        steps: training steps.
        wall_seconds: wall time of the training, with its evaluations.

    Returns:
        ``bits_a_vector``, ``bits_an_image``, and ``tokens_a_second``: all indices of the training images divided by the
        wall time, so n for each vector of n codes.

    Example:
        >>> from vqlab.config import Config
        >>> code_measures(Config.profile("paper"), steps=100, wall_seconds=80.0)
        {'bits_a_vector': 10.0, 'bits_an_image': 640.0, 'tokens_a_second': 10240.0}
    """
    bits = config.quantizer.bits
    tokens = steps * config.optim.batch_size * math.prod(config.code_shape)
    return {
        "bits_a_vector": bits,
        "bits_an_image": bits * math.prod(config.grid),
        "tokens_a_second": tokens / wall_seconds,
    }


def quantization_error(rows: pd.DataFrame) -> float:
    """Compute the quantization error at the end of a training: mean of ‖z_e − z_q‖²/‖z_e‖² over its last quarter.

    Args:
        rows: ``run.metrics()``; rows of kind ``train`` with ``step`` and ``relative_error`` are used.

    Returns:
        The mean over the logged batches; NaN for a model without a quantizer.

    Example:
        >>> import pandas as pd
        >>> rows = pd.DataFrame({"kind": "train", "step": [1, 2, 3, 4], "relative_error": [4.0, 3.0, 2.0, 1.0]})
        >>> quantization_error(rows)
        1.0
    """
    if "relative_error" not in rows:
        return math.nan
    logged = rows[rows["kind"] == "train"]
    return float(logged["relative_error"][logged["step"] > 0.75 * logged["step"].max()].mean())


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
    """Write a mean and its confidence interval with four digits; 10,000 and more without an exponent.

    Args:
        mean: the mean.
        low: lower end of the interval; NaN where there is none.
        high: upper end of the interval.

    Returns:
        ``mean [low, high]``, or the mean alone where ``low`` is NaN or all three are equal.

    Example:
        >>> format_interval(2.0, 1.23456, 2.76544), format_interval(774_004.0, 774_004.0, 774_004.0)
        ('2 [1.235, 2.765]', '774,000')
    """
    if math.isnan(low) or low == mean == high:
        return _four_digits(mean)
    return f"{_four_digits(mean)} [{_four_digits(low)}, {_four_digits(high)}]"


def _four_digits(value: float) -> str:
    text = f"{value:.4g}"
    return f"{float(text):,.0f}" if abs(value) >= 10_000 else text
