"""A finished Run as a tokenizer: images to code grids and back, and the pictures that belong to a code."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int64, UInt8
from torch import Tensor

from vqlab.analysis.pictures import to_uint8
from vqlab.data import ImageData
from vqlab.errors import InputError
from vqlab.metrics import psnr, ssim
from vqlab.training import Run

Image = Float[Tensor, "3 H W"]
Grid = Int[Tensor, "h w"]

_TOKEN_IMAGES = 512
_SOLID = 4
_SSIM_WINDOW = 11


class Tokenizer:
    """The model of ``run`` on CPU, in eval mode; what is slow to make is made once, when asked for.

    Raises InputError for a Run whose folder is gone, that is no VQ-VAE's, has not finished or is damaged.
    """

    def __init__(self, run: Run, data: ImageData | None = None) -> None:
        if not run.folder.is_dir():
            raise InputError(f"run {run.folder}: the folder is gone; train it again or choose another run")
        if run.config.kind != "vqvae":
            raise InputError(
                f"run {run.folder}: is a {run.config.kind}, which has no codes of its own; give a VQ-VAE's Run"
            )
        self.run, self.model = run, run.model()
        self.usage: Int64[np.ndarray, "epochs K"] = run.usage()
        self.num_codes = run.config.quantizer.num_codes
        self.patch = 1 << run.config.model.downsample
        self._data = data

    @cached_property
    def data(self) -> ImageData:
        """The images that the Run was trained and is tested on."""
        return self._data or self.run.data()

    @torch.no_grad()
    def encode(self, image: Image) -> Grid:
        """The code grid of one image in [0, 1]."""
        return self.model.encode(image[None])[0]

    @torch.no_grad()
    def decode(self, grid: Grid) -> Image:
        """The image in [0, 1] of one code grid; raises InputError for an index outside the codebook."""
        return self.model.decode(grid[None])[0]

    @cached_property
    def code_patches(self) -> UInt8[Tensor, "K 3 p p"]:
        """What each code looks like, 0…255: the middle patch of a small grid that holds nothing else."""
        middle = _SOLID // 2 * self.patch
        cut = slice(middle, middle + self.patch)
        parts = []
        with torch.no_grad():
            for codes in torch.arange(self.num_codes).split(256):
                grids = codes[:, None, None].expand(-1, _SOLID, _SOLID)
                parts.append(to_uint8(self.model.decode(grids)[:, :, cut, cut]))
        return torch.cat(parts)

    def nearest_patches(self, code: int, count: int = 24) -> UInt8[Tensor, "n 3 P P"]:
        """Patches of the first test images whose vectors chose ``code``, the nearest first, at most ``count``.

        Each comes with as much around it as it measures itself, so P = 3 × the patch; beyond the image is grey.
        """
        indices, distances = self._tokens
        chosen = (indices == code).nonzero()
        order = distances[tuple(chosen.T)].argsort()[:count]
        size = self.patch
        cut = []
        for image, row, column in chosen[order].tolist():
            wide = F.pad(self.data.test.pixels[image], (size,) * 4, value=128)
            cut.append(wide[:, row * size : (row + 3) * size, column * size : (column + 3) * size])
        return torch.stack(cut) if cut else torch.empty(0, 3, 3 * size, 3 * size, dtype=torch.uint8)

    @property
    def token_images(self) -> int:
        """How many test images ``nearest_patches`` and ``token_counts`` look at."""
        return min(_TOKEN_IMAGES, len(self.data.test))

    def token_counts(self) -> Int64[Tensor, " K"]:
        """How often each code was chosen in the first test images."""
        return torch.bincount(self._tokens[0].flatten(), minlength=self.num_codes)

    @cached_property
    def _tokens(self) -> tuple[Int64[Tensor, "N h w"], Float[Tensor, "N h w"]]:
        """Code and squared distance ‖e − q‖² of each token of the first test images."""
        indices, distances = [], []
        with torch.no_grad():
            for pixels in self.data.test.pixels[: self.token_images].split(128):
                z_e = self.model.encoder(pixels.float() / 255)
                out = self.model.quantizer(z_e)
                indices.append(out.indices)
                distances.append((z_e - out.z_q).square().sum(dim=1))
        return torch.cat(indices), torch.cat(distances)


def image_metrics(image: Image, reconstruction: Image) -> dict[str, float]:
    """PSNR (dB) and SSIM of one image; SSIM is NaN under its 11-pixel window."""
    pair = (reconstruction[None], image[None])
    small = min(image.shape[1:]) < _SSIM_WINDOW
    return {"psnr": float(psnr(*pair)), "ssim": float("nan") if small else float(ssim(*pair))}
