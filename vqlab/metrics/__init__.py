"""Image metrics: MSE, PSNR, SSIM, precision and recall, and distances between sets of images."""

from vqlab.metrics.distances import real_image_distances
from vqlab.metrics.frechet import Moments, frechet_distance, frechet_error
from vqlab.metrics.kernel import kernel_distance
from vqlab.metrics.pixels import mse, psnr, ssim
from vqlab.metrics.precision import precision_recall

__all__ = [
    "Moments",
    "frechet_distance",
    "frechet_error",
    "kernel_distance",
    "mse",
    "precision_recall",
    "psnr",
    "real_image_distances",
    "ssim",
]
