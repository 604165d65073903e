"""The codes of the first test images of a Run, with the distance of each token to its code."""

from __future__ import annotations

from functools import cached_property

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vqlab.analysis.place_vectors import place_vectors
from vqlab.analysis.tokenizer import Tokenizer
from vqlab.quantize.usage import squared_distances
from vqlab.training import Run

_IMAGES_AT_ONCE = 128


def most_used_indices(run: Run) -> Int64[Tensor, "*n"]:
    """Find the index that the last epoch used most.

    Args:
        run: a Run of a VQ-VAE with at least one finished epoch.

    Returns:
        The index; for vectors of several codes, that of each place.

    Raises:
        InputError: if the Run is not that of a VQ-VAE, or has not finished an epoch.
    """
    places = run.config.quantizer.codes_per_vector
    most = torch.tensor([int(run.usage(place)[-1].argmax()) for place in range(places)])
    return most if places > 1 else most[0]


class EncodedTokens:
    """The first test images, encoded when they are first needed, once for all places of the codes.

    Args:
        tokenizer: the opened Run.

    Attributes:
        tokenizer: as the argument.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    @property
    def indices(self) -> Int64[Tensor, "N h w *n"]:
        """Indices of each token."""
        return self._encoded[0]

    @property
    def distances(self) -> Float[Tensor, "N h w *n"]:
        """Squared distance of each token to its code; for vectors of several codes, of what each place quantizes."""
        return self._encoded[1]

    @cached_property
    def _encoded(self) -> tuple[Tensor, Tensor]:
        tokenizer = self.tokenizer
        indices, distances = [], []
        with torch.no_grad():
            for pixels in tokenizer.data.test.pixels[: tokenizer.num_token_images].split(_IMAGES_AT_ONCE):
                z_e = tokenizer.model.encoder(pixels.float() / 255)
                out = tokenizer.model.quantizer(z_e)
                indices.append(out.indices)
                distances.append(self._distances(z_e, out.z_q, out.indices))
        return torch.cat(indices), torch.cat(distances)

    def _distances(self, z_e: Tensor, z_q: Tensor, indices: Tensor) -> Tensor:
        settings = self.tokenizer.run.config.quantizer
        if settings.codes_per_vector == 1:
            return (z_e - z_q).square().sum(dim=1)
        quantized = place_vectors(self.tokenizer.model.quantizer, z_e, indices, settings.levels)
        rows = indices.flatten(0, -2)
        by_place = [
            squared_distances(place.vectors, place.codes[rows[:, index]]) for index, place in enumerate(quantized)
        ]
        return torch.stack(by_place, dim=-1).view(indices.shape)
