"""Nearest training images of samples, and interpolation between images in code space."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vqlab.data import Images
from vqlab.errors import InputError
from vqlab.quantize.search import nearest_codes
from vqlab.training import Run
from vqlab.training.codes import code_vectors

_CHUNK = 256


@dataclass(frozen=True)
class Neighbours:
    """The nearest training image of each of N images.

    Attributes:
        indices: index of the training image, (N,).
        distances: root mean square difference of the pixel values in [0, 1], (N,).
    """

    indices: Int[Tensor, " N"]
    distances: Float[Tensor, " N"]


def nearest_training_images(images: Float[Tensor, "N C H W"], train: Images) -> Neighbours:
    """Find the training image with the smallest distance in pixel values, to detect copies.

    Args:
        images: pixels in [0, 1], for example samples of a model.
        train: training images of the same size.

    Returns:
        Index and distance for each image.

    Example:
        >>> pixels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1)
        >>> train = Images(pixels, labels=torch.tensor([0, 0]))
        >>> nearest_training_images(torch.full((1, 3, 1, 1), 0.75), train)
        Neighbours(indices=tensor([1]), distances=tensor([0.2500]))
    """
    queries = images.flatten(1)
    distances = torch.full((len(images),), torch.inf)
    indices = torch.zeros(len(images), dtype=torch.long)
    for start in range(0, len(train), _CHUNK):
        chunk = train.pixels[start : start + _CHUNK].float().flatten(1) / 255
        chunk_distances, chunk_indices = torch.cdist(queries, chunk).min(1)
        nearer = chunk_distances < distances
        distances = torch.where(nearer, chunk_distances, distances)
        indices = torch.where(nearer, chunk_indices + start, indices)
    return Neighbours(indices, distances / queries.shape[1] ** 0.5)


def neighbour_distances(run: Run, samples: Float[Tensor, "N C H W"]) -> dict[str, Neighbours]:
    """Find the nearest training images of samples, and of as many test images for comparison.

    Args:
        run: the Run that the samples are from.
        samples: pixels in [0, 1].

    Returns:
        The neighbours of the ``samples`` and of the ``test images``, which are evenly spaced over the test set.

    Raises:
        InputError: if the images of the Run cannot be read.
    """
    data = run.data()
    return {
        "samples": nearest_training_images(samples, data.train),
        "test images": nearest_training_images(data.test.evenly_spaced(len(samples)), data.train),
    }


@torch.no_grad()
def interpolate(run: Run, images: Float[Tensor, "2 C H W"], steps: int = 9) -> Float[Tensor, "steps C H W"]:
    """Interpolate between two images in the code space of a VQ-VAE.

    z_q is interpolated linearly, each vector is replaced by its nearest code, and the codes are decoded. With several
    codes for a vector z_e is interpolated instead, and quantized as that of an image.

    Args:
        run: a Run of a VQ-VAE.
        images: two images in [0, 1].
        steps: number of images, both ends included; at least 2.

    Returns:
        The decoded images in [0, 1]; the first and the last one are the reconstructions of ``images``.

    Raises:
        InputError: if ``steps`` is below 2 or the Run is not a VQ-VAE.
    """
    if steps < 2:
        raise InputError(f"steps={steps}: must be at least 2 (both ends are included)")
    model = run.require_kind("vqvae").model()
    weights = torch.linspace(0, 1, steps).view(-1, 1, 1, 1)
    if run.config.quantizer.codes_per_vector > 1:
        # No table of all values of a vector exists, in which a value between two could be looked up.
        first, last = model.encoder(images)
        return model.decode(model.quantizer((1 - weights) * first + weights * last).indices)
    codes = code_vectors(model)
    first, last = codes[model.encode(images)]
    path = (1 - weights) * first + weights * last
    return model.decode(nearest_codes(path.flatten(0, 2), codes, "euclidean").view(path.shape[:3]))
