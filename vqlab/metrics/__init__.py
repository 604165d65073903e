"""MSE, PSNR, SSIM, distances between sets of images, and the evaluation of a Run."""

from vqlab.metrics.coverage import precision_recall
from vqlab.metrics.distances import real_distances
from vqlab.metrics.evaluation import evaluate
from vqlab.metrics.frechet import Moments, frechet_distance, frechet_error
from vqlab.metrics.kernel import kernel_distance
from vqlab.metrics.pixels import mse, psnr, ssim

__all__ = [
    "Moments",
    "evaluate",
    "frechet_distance",
    "frechet_error",
    "kernel_distance",
    "mse",
    "precision_recall",
    "psnr",
    "real_distances",
    "ssim",
]
