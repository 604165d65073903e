"""MSE, PSNR, SSIM, and the evaluation of a Run."""

from vqlab.metrics.evaluation import evaluate
from vqlab.metrics.pixels import mse, psnr, ssim

__all__ = ["evaluate", "mse", "psnr", "ssim"]
