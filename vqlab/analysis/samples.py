"""What samples are beside the training images, and paths between images in code space."""

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
    """The training image nearest to each of N images: its place, and the distance (root mean square of pixels)."""

    places: Int[Tensor, " N"]
    distances: Float[Tensor, " N"]


def nearest_training_images(images: Float[Tensor, "N 3 H W"], train: Images) -> Neighbours:
    """By pixels: copies and near copies show at once. images: in [0, 1]."""
    wanted = images.flatten(1)
    best = torch.full((len(images),), torch.inf)
    places = torch.zeros(len(images), dtype=torch.long)
    for start in range(0, len(train), _CHUNK):
        known = train.pixels[start : start + _CHUNK].float().flatten(1) / 255
        apart, place = torch.cdist(wanted, known).min(1)
        nearer = apart < best
        best, places = torch.where(nearer, apart, best), torch.where(nearer, place + start, places)
    return Neighbours(places, best / wanted.shape[1] ** 0.5)


@torch.no_grad()
def interpolate(run: Run, images: Float[Tensor, "2 3 H W"], steps: int = 9) -> Float[Tensor, "steps 3 H W"]:
    """From one image to the other in code space: z_q goes straight, each cell is put on its nearest code, decoded.

    Raises InputError for a Run that is no VQ-VAE and for fewer than 2 steps.
    """
    if steps < 2:
        raise InputError(f"steps={steps}: must be at least 2, both ends")
    model = run.require("vqvae").model()
    table = code_vectors(model)
    one, other = table[model.encode(images)]
    shares = torch.linspace(0, 1, steps).view(-1, 1, 1, 1)
    path = (1 - shares) * one + shares * other
    return model.decode(nearest_codes(path.flatten(0, 2), table, "euclidean").view(path.shape[:3]))
